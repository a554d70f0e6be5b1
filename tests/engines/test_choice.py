"""Which engine serves, and what is said where the fast one does not run."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined] # no stubs

from creditgate_server.app.addresses import RefusedToStart
from creditgate_server.app.server import running
from creditgate_server.app.settings import Settings
from creditgate_server.engines import choice
from creditgate_server.engines.aio import AioEngine
from creditgate_server.engines.core import CoreEngine


async def test_the_fast_engine_is_taken_where_it_fits() -> None:
    engine = choice.engine("auto", {})
    assert isinstance(engine, CoreEngine)
    assert engine.name == "core"


async def test_the_public_way_is_taken_where_it_is_asked_for() -> None:
    engine = choice.engine("aio", {})
    assert isinstance(engine, AioEngine)
    assert engine.name == "aio"
    await engine.stop(0)


def test_a_loop_that_cannot_be_shared_is_served_the_public_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def choose() -> None:
        engine = choice.engine("auto", {})
        assert isinstance(engine, AioEngine)
        await engine.stop(0)
        with pytest.raises(choice.NoSuchEngine, match=r"debug mode.*choose aio or auto"):
            choice.engine("core", {})

    with caplog.at_level(logging.WARNING):
        asyncio.run(choose(), debug=True)
    assert "core does not run with this event loop" in caplog.text


@pytest.mark.parametrize(
    ("part", "put"),
    [
        ("peer_identities", None),
        ("CallDetails", object),
        ("CompletionQueue", cygrpc.Call),
    ],
)
async def test_a_grpcio_of_another_shape_is_served_the_public_way(
    part: str, put: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if put is None:
        monkeypatch.delattr(cygrpc, part)
    else:
        monkeypatch.setattr(cygrpc, part, put)
    with caplog.at_level(logging.WARNING):
        engine = choice.engine("auto", {})
    assert isinstance(engine, AioEngine)
    assert "core does not run with grpcio" in caplog.text
    with pytest.raises(choice.NoSuchEngine, match="with grpcio"):
        choice.engine("core", {})
    await engine.stop(0)


def test_a_server_that_cannot_have_the_engine_it_is_told_to_have_does_not_start(
    tmp_path: Path,
) -> None:
    async def start() -> None:
        given: dict[str, Any] = {
            "engine": "core",
            "listen": "127.0.0.1:0",
            "data": tmp_path / "data",
        }
        async with running(Settings(**given)):
            pass

    with pytest.raises(RefusedToStart, match="--engine core does not run"):
        asyncio.run(start(), debug=True)
