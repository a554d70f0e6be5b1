"""A grpc.aio server that does nothing: what any call costs there, before it has a purpose.

`python -m creditgate_server.bench.bare unix:/path/of.sock` serves until it is terminated.
"""

import asyncio
import signal
import sys
from typing import Any

import grpc

from creditgate_server.bench.work import BARE


async def _empty(_body: bytes, _context: Any) -> bytes:
    return b""


async def _serve(address: str) -> None:
    server = grpc.aio.server()
    _, service, method = BARE.split("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(_empty)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(address)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
