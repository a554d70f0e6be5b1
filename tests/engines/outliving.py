"""Calls that are under way when their engine stops, and end only afterwards.

Run as `python -m tests.engines.outliving ENGINE FOLDER [unguarded]`, since with the planted bug the
process is aborted.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

from creditgate_server.engines import choice, core
from creditgate_server.engines.engine import Endpoints, Name
from creditgate_server.rpc.endpoint import Answer, Caller
from creditgate_server.rpc.stream import Stream, StreamClosed
from tests.engines.host import UNARY, streams


async def main(name: Name, folder: Path) -> None:
    """Exits as usual if nothing is wrong."""
    go_on = asyncio.Event()
    begun, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def late(_body: bytes, _caller: Caller) -> Answer:
        begun.release()
        await go_on.wait()
        ended.release()
        return Answer(b"late")

    async def late_stream(it: Stream) -> None:
        begun.release()
        await go_on.wait()
        assert await it.read() is None
        try:
            await it.write(b"late")
        except StreamClosed:
            ended.release()

    endpoints: Endpoints = {UNARY: late, **streams(late_stream)}
    [path] = set(endpoints) - {UNARY}
    engine = choice.engine(name, endpoints)
    engine.bind(f"unix:{folder / 'it.sock'}")
    await engine.start()
    channel = grpc.aio.insecure_channel(f"unix:{folder / 'it.sock'}")
    calls: list[Any] = []
    for _ in range(20):
        unary: Any = channel.unary_unary(UNARY)
        calls.append(unary(b"", timeout=30))
        session: Any = channel.stream_stream(path)(timeout=30)
        await session.write(b"")
        calls.append(session)
    for _ in calls:
        await begun.acquire()
    await engine.stop(0)
    # Again, which does nothing.
    await engine.stop(0)
    go_on.set()
    for call in calls:
        await ended.acquire()
        call.cancel()
    await channel.close()


if __name__ == "__main__":
    engine_name: Any = sys.argv[1]
    if "unguarded" in sys.argv:

        def batch(_self: object, call: Any, operations: Any, done: Any) -> bool:
            """Planted: no matter whether there is still a queue."""
            call.start_server_batch(operations, done)
            return True

        core.CoreEngine.batch = batch  # type: ignore[method-assign,assignment]
    asyncio.run(asyncio.wait_for(main(engine_name, Path(sys.argv[2])), 40))
