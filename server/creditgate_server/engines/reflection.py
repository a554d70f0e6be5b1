"""The standard reflection service, as an endpoint of either engine."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection import (  # type: ignore[import-untyped] # not marked
    ReflectionServicer,
)
from grpc_reflection.v1alpha.reflection_pb2 import (  # type: ignore[import-untyped] # not marked
    DESCRIPTOR,
    ServerReflectionRequest,
)

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines.engine import Endpoints
from creditgate_server.rpc.stream import Stream, StreamEndpoint

_CONTRACT = DESCRIPTOR.services_by_name["ServerReflection"]


def endpoints(services: Iterable[str]) -> Endpoints:
    """What a server tells tools such as grpcurl about its services and their messages."""
    servicer = ReflectionServicer((*services, _CONTRACT.full_name))

    async def tell(stream: Stream) -> None:
        while (body := await stream.read()) is not None:
            for response in servicer.ServerReflectionInfo(iter((_request(body),)), None):
                await stream.write(response.SerializeToString())

    (method,) = _CONTRACT.methods
    endpoint = StreamEndpoint(method, tell)
    return {endpoint.path: endpoint}


def _request(body: bytes) -> ServerReflectionRequest:
    try:
        return ServerReflectionRequest.FromString(body)
    except DecodeError:
        raise Fault(
            Reason.MALFORMED_MESSAGE, "these bytes are not a request of ServerReflection"
        ) from None
