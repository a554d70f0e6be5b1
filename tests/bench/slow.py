"""A gRPC server whose answers a test decides, with the threads of grpc's own making."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

Answer = Callable[[str, bytes], bytes]
"""From method and message to the message that is answered. May raise `Refused`, and may wait."""


class Refused(Exception):
    """Answer with a status."""

    def __init__(self, code: grpc.StatusCode, **trailing: str) -> None:
        super().__init__(code)
        self.code = code
        self.trailing = tuple(trailing.items())


@contextmanager
def serving(folder: Path, answer: Answer) -> Iterator[str]:
    """The address of a server that answers one call after the other."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            path = handler_call_details.method

            def call(body: bytes, context: grpc.ServicerContext) -> bytes:
                try:
                    return answer(path, body)
                except Refused as refused:
                    context.set_trailing_metadata(refused.trailing)
                    context.abort(refused.code, "as the test says")
                    raise

            return grpc.unary_unary_rpc_method_handler(call)

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((Handler(),))
        address = f"unix:{folder}/slow.sock"
        server.add_insecure_port(address)
        server.start()
        try:
            yield address
        finally:
            server.stop(0).wait()


class Stall:
    """Answers at once, but for one pause."""

    def __init__(self, after: int, lasts_s: float) -> None:
        self._left = after
        self._lasts_s = lasts_s

    def __call__(self, _path: str, _body: bytes) -> bytes:
        self._left -= 1
        if self._left == 0:
            threading.Event().wait(self._lasts_s)
        return b""
