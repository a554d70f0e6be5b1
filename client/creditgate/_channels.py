"""Where the server is, and the channels to it: one per process, or per event loop."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import grpc
import grpc.aio

ADDRESS_VARIABLE = "CREDITGATE_ADDRESS"
ADDRESS_DEFAULT = "127.0.0.1:7420"

Options = Sequence[tuple[str, Any]]


def address_of(address: str | None) -> str:
    """The argument, else the environment, else the default port on this machine."""
    if address is None:
        address = os.environ.get(ADDRESS_VARIABLE, "").strip() or ADDRESS_DEFAULT
    if not address:
        raise ValueError("the address is empty")
    return address


@functools.cache
def _version() -> str:
    try:
        return metadata.version("creditgate")
    except metadata.PackageNotFoundError:
        return "unknown"


def _options(more: Options) -> list[tuple[str, Any]]:
    return [
        # Only we retry: we know the budget, and which answers are final.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Connections are shared by all channels of a process otherwise: close() would close
        # nothing, and a forked process would write into its parent's.
        ("grpc.use_local_subchannel_pool", 1),
        # The server is beside us: the proxy of the outside world is not on the way.
        ("grpc.enable_http_proxy", 0),
        # After a restart of the server look for it soon; the default is a second, growing to two
        # minutes.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A page of a thousand entries is larger than the default of 4 MiB may be.
        ("grpc.max_receive_message_length", 16 << 20),
        ("grpc.primary_user_agent", f"creditgate-python/{_version()}"),
        *more,
    ]


def sync_channel(
    address: str, credentials: grpc.ChannelCredentials | None, options: Options
) -> grpc.Channel:
    """A channel for threads."""
    if credentials is None:
        return grpc.insecure_channel(address, options=_options(options))
    return grpc.secure_channel(address, credentials, options=_options(options))


def aio_channel(
    address: str, credentials: grpc.ChannelCredentials | None, options: Options
) -> grpc.aio.Channel:
    """A channel for the event loop that is running."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=_options(options))
    return grpc.aio.secure_channel(address, credentials, options=_options(options))
