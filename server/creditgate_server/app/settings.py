"""What an operator may set. Safe without any; what is dangerous says so in its name."""

from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PORT = 7420


class Settings(BaseSettings):
    """Each setting is a flag of `creditgate serve` and a variable CREDITGATE_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="CREDITGATE_", frozen=True, extra="forbid")

    listen: str = Field(f"127.0.0.1:{PORT}", description="address to listen on, host:port")
    socket: Path | None = Field(
        None, description="unix socket to listen on as well; its directory is made with mode 0700"
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that share the port of --listen, such as one for each core",
    )
    insecure_listen: bool = Field(
        False, description="allow --listen beyond this machine, without encryption or tokens"
    )
    engine: Literal["auto", "core", "aio"] = Field(
        "auto",
        description="what serves gRPC: core is the fast one, aio the public way; auto takes core "
        "where it runs",
    )
    redis: SecretStr | None = Field(
        None,
        description="URL: redis://, unix://, redis+cluster:// or redis+sentinel:// (with TLS "
        "rediss…); without it a store is started here",
    )
    replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="replicas of a primary that must have a change before it is answered OK",
    )
    data: Path = Field(
        default_factory=lambda: user_data_path("creditgate"),
        description="directory of the store that is started here",
    )
    fsync: Literal["always", "everysec"] = Field(
        "always",
        description="how the store syncs its log; everysec may lose the last second at a power cut",
    )
    unsafe_store: bool = Field(
        False, description="serve although the store may lose or evict what it was told"
    )
    partitions: int | None = Field(
        None, ge=1, le=4096, description="number of partitions of a new store; 64 unless set"
    )
    catalog: str = Field("recraft", description="name of a shipped catalog, or path of a TOML file")
    places: int = Field(
        2_000,
        ge=4,
        description="requests under way at most in each worker; starting a job gives way first",
    )
    store_timeout_s: float = Field(
        2.0, gt=0, le=60, description="how long the store may take to answer"
    )
    drain_s: float = Field(
        10.0, ge=0, le=600, description="how long requests under way may take when going down"
    )
    record_days: int = Field(
        30, ge=1, le=3650, description="how long ids are remembered after their hold ended"
    )
    developer: bool = Field(
        False, description="reflection, for tools such as grpcurl, and a clock that can be moved"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="how much is logged"
    )
