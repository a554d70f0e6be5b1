"""A server of our own, with a store of its own, both gone at the end."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from creditgate_server.app.addresses import RefusedToStart
from creditgate_server.app.server import Running, running
from creditgate_server.app.settings import Settings
from creditgate_server.store.embedded import StoreStartError
from creditgate_server.store.link import StoreError

StartError = (RefusedToStart, StoreError, StoreStartError)
"""What may hinder it."""


@dataclass(frozen=True)
class _Started:
    server: Running
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


@contextmanager
def own_server() -> Iterator[Running]:
    """A server on a free port of this machine, whatever the environment says of its settings.

    Raises one of `StartError`.
    """
    with tempfile.TemporaryDirectory(prefix="creditgate-demo-") as directory:
        settings = defaults(listen="127.0.0.1:0", data=Path(directory))
        with in_background(settings) as server:
            yield server


@contextmanager
def in_background(settings: Settings) -> Iterator[Running]:
    """Serve in a thread with an event loop of its own. Raises one of `StartError`."""
    started: Future[_Started] = Future()
    # The store ends with the thread that started it, which is why that one does nothing else.
    thread = threading.Thread(
        target=asyncio.run, args=(_serve(settings, started),), name="creditgate", daemon=True
    )
    thread.start()
    try:
        yield started.result().server
    finally:
        # Also when we were interrupted while it started; when it did not, or ended by itself, there
        # is nothing to stop.
        with suppress(*StartError, RuntimeError):
            at = started.result()
            at.loop.call_soon_threadsafe(at.stop.set)
        thread.join()


def defaults(**chosen: Any) -> Settings:
    """The default settings but for what is chosen; the environment is not asked."""
    fields = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in Settings.model_fields.items()
    }
    return Settings(**{**fields, **chosen})


async def _serve(settings: Settings, started: Future[_Started]) -> None:
    stop = asyncio.Event()
    try:
        async with running(settings, on_store_lost=stop.set) as server:
            started.set_result(_Started(server, asyncio.get_running_loop(), stop))
            await stop.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)
