"""TLS and mutual TLS on both engines."""

from pathlib import Path

import grpc
import pytest
import trustme

from creditgate_server.engines.engine import Name
from creditgate_server.rpc.endpoint import Answer, Caller
from tests.engines.host import UNARY, Host, hosting
from tests.rpc.shop import send

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost")
WORKER = AUTHORITY.issue_cert("worker-7.example")


@pytest.fixture(params=["core", "aio"])
def name(request: pytest.FixtureRequest) -> Name:
    found: Name = request.param
    return found


async def who(body: bytes, caller: Caller) -> Answer:
    return Answer(body + b" " + b",".join(caller.identities()))


def credentials(*, mutual: bool) -> grpc.ServerCredentials:
    chain = b"".join(blob.bytes() for blob in SERVER.cert_chain_pems)
    return grpc.ssl_server_credentials(
        [(SERVER.private_key_pem.bytes(), chain)],
        root_certificates=AUTHORITY.cert_pem.bytes() if mutual else None,
        require_client_auth=mutual,
    )


def ask(
    host: Host, *, authority: trustme.CA = AUTHORITY, own: trustme.LeafCert | None = None
) -> bytes:
    channel_credentials = grpc.ssl_channel_credentials(
        root_certificates=authority.cert_pem.bytes(),
        private_key=own.private_key_pem.bytes() if own else None,
        certificate_chain=own.cert_chain_pems[0].bytes() if own else None,
    )
    options = (
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),
    )
    with grpc.secure_channel(f"unix:{host.socket}", channel_credentials, options) as channel:
        return send(channel, UNARY, b"hello", timeout_s=5)


def unavailable(host: Host, **more: trustme.CA | trustme.LeafCert) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(host, **more)  # type: ignore[arg-type]
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_tls_the_server_is_known_and_callers_are_not(name: Name, tmp_path: Path) -> None:
    with hosting(name, tmp_path, {UNARY: who}, credentials(mutual=False)) as host:
        assert ask(host) == b"hello "
        assert unavailable(host, authority=STRANGER)
        with host.channel() as plain, pytest.raises(grpc.RpcError) as caught:
            send(plain, UNARY, b"hello", timeout_s=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_mutual_tls_callers_are_known_by_their_certificate(name: Name, tmp_path: Path) -> None:
    with hosting(name, tmp_path, {UNARY: who}, credentials(mutual=True)) as host:
        assert ask(host, own=WORKER) == b"hello worker-7.example"
        assert unavailable(host)
        assert unavailable(host, own=STRANGER.issue_cert("worker-7.example"))
