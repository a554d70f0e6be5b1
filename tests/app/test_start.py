"""Where a server refuses to listen, and what a second one is told."""

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # not marked
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped] # not marked

from creditgate_server.app.addresses import RefusedToStart, check_listen
from creditgate_server.store.embedded import StoreStartError
from tests.crash.process import begin, server
from tests.rpc.shop import Shop, connected, send, shop

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with shop(tmp_path_factory.mktemp("first")) as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:7420",
        "example.com:7420",
        "127.0.0.1.example.com:1",
        "*:7420",
        ":7420",
        "unix-abstract:it",
    ],
)
def test_it_does_not_listen_beyond_this_machine_unless_told_to(
    address: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedToStart, match="--listen"), shop(tmp_path, listen=address):
        pass
    assert not (tmp_path / "data").exists(), "it was refused after the store had been started"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "localhost:0"])
def test_it_listens_on_this_machine(address: str) -> None:
    check_listen(address, insecure=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "7420", "localhost:http", "localhost:65536"])
def test_an_address_that_is_none_is_refused_in_any_case(address: str) -> None:
    for insecure in (False, True):
        with pytest.raises(RefusedToStart, match="host:port"):
            check_listen(address, insecure=insecure)


def test_it_listens_everywhere_if_it_is_told_by_name(tmp_path: Path) -> None:
    with shop(tmp_path, listen="0.0.0.0:0", insecure_listen=True) as found:
        port = found.running.address.rpartition(":")[2]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert send(channel, "/creditgate.v1.Catalog/GetCatalog", b"")


def test_its_socket_is_for_this_user_only(running: Shop) -> None:
    mode = stat.S_IMODE(running.socket.parent.stat().st_mode)
    assert not mode & (stat.S_IRWXO | stat.S_IRWXG)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o1777])
def test_a_socket_where_every_user_can_go_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with (
        pytest.raises(RefusedToStart, match="every user of this machine"),
        shop(tmp_path, socket=folder / "it.sock"),
    ):
        pass


def test_a_group_may_be_let_in(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    folder.chmod(0o750)
    with shop(tmp_path, socket=folder / "it.sock") as found:
        assert found.account(1).figures() == (1, 0, 0)


def test_a_path_too_long_for_a_socket_is_refused_with_its_length(tmp_path: Path) -> None:
    with (
        pytest.raises(RefusedToStart, match="at most 100 bytes"),
        shop(tmp_path, socket=tmp_path / ("x" * 100) / "it.sock"),
    ):
        pass


def test_a_second_server_does_not_take_the_socket_of_the_first(
    running: Shop, tmp_path: Path
) -> None:
    with (
        pytest.raises(RefusedToStart, match="another server listens there"),
        shop(tmp_path, socket=running.socket),
    ):
        pass
    assert running.account(5).figures() == (5, 0, 0)


def test_a_second_server_does_not_share_the_port_of_the_first(
    running: Shop, tmp_path: Path
) -> None:
    with (
        pytest.raises(RefusedToStart, match="in use"),
        shop(tmp_path, listen=running.running.address),
    ):
        pass
    assert running.account(5).figures() == (5, 0, 0)


def test_a_port_that_another_program_has_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(RefusedToStart, match="choose another port"),
            shop(tmp_path, listen=f"127.0.0.1:{port}"),
        ):
            pass


def test_a_second_server_does_not_write_the_data_of_the_first(
    running: Shop, tmp_path: Path
) -> None:
    data = running.socket.parent.parent / "data"
    with pytest.raises(StoreStartError, match="in use by"), shop(tmp_path, data=data):
        pass
    assert running.account(5).figures() == (5, 0, 0)


def test_a_second_process_is_told_too_and_ends_with_an_error(tmp_path: Path) -> None:
    with server(tmp_path / "first") as first:
        given = {"listen": first.address, "data": str(tmp_path / "second")}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.crash.runner", json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode != 0
        assert "choose another port" in ended.stderr
        with pytest.raises(AssertionError, match="another server listens there"):
            begin(tmp_path / "third", socket=str(first.socket))
        assert first.end() == 0


def test_after_a_server_was_killed_its_socket_can_be_had_again(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        first.kill()
    assert first.socket.exists()
    with server(tmp_path) as second, connected(second.socket) as channel:
        assert send(channel, "/creditgate.v1.Catalog/GetCatalog", b"")
        assert second.end() == 0


def test_health_says_serving_of_the_whole_and_of_each_service(running: Shop) -> None:
    serving = health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()
    for name in ("", "creditgate.v1.Credits", "creditgate.v1.Accounts", "creditgate.v1.Catalog"):
        body = health_pb2.HealthCheckRequest(service=name).SerializeToString()
        assert send(running.channel, HEALTH, body) == serving


def reflection(channel: grpc.Channel) -> list[bytes]:
    method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(REFLECTION)
    everything = reflection_pb2.ServerReflectionRequest(list_services="*")
    return list(method(iter([everything.SerializeToString()]), timeout=10))


def test_reflection_is_for_developers_only(running: Shop, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        reflection(running.channel)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with shop(tmp_path, developer=True) as found:
        [answer] = reflection(found.channel)
        for name in (b"creditgate.v1.Credits", b"grpc.health.v1.Health"):
            assert name in answer
