"""Connections: where to, for whom, and until when."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

import creditgate
from creditgate import AsyncClient, Client
from creditgate._channels import Processes
from tests.client.bench import AnyClient, Clock, make_client
from tests.client.fake import FakeServer, when


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_address_is_the_argument_else_the_environment_else_the_default(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.delenv("CREDITGATE_ADDRESS", raising=False)
    assert kind().address == "127.0.0.1:7420"
    monkeypatch.setenv("CREDITGATE_ADDRESS", "unix:/run/creditgate/s")
    assert kind().address == "unix:/run/creditgate/s"
    assert kind("other:1").address == "other:1"
    with pytest.raises(ValueError, match="empty"):
        kind("")


def test_a_client_that_is_made_connects_to_nothing(server: FakeServer) -> None:
    client = Client(server.address)
    assert client._processes.here().channel is None
    client.get_account("a")
    assert client._processes.here().channel is not None
    assert repr(client) == f"Client({server.address!r})"
    client.close()


async def test_a_closed_client_makes_no_calls(client: AnyClient, server: FakeServer) -> None:
    view = client.with_options(budget_s=0)
    await client.get_account("a")
    await view.get_account("a")
    await client.close()
    for closed in (client, view):
        with pytest.raises(RuntimeError, match="closed"):
            await closed.get_account("a")
    await client.close()
    assert len(server.asked) == 2


def test_closing_ends_what_is_under_way(server: FakeServer) -> None:
    released = threading.Event()
    server.tell("settle", when(released))
    client = Client(server.address, budget_s=0)
    found: list[BaseException] = []

    def call() -> None:
        try:
            client.settle("a", "h")
        except creditgate.CreditgateError as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    server.wait_for("settle", 1)
    client.close()
    thread.join(5)
    released.set()
    assert isinstance(found[0], creditgate.OutcomeUnknown)


def test_closing_gives_the_connection_back(server: FakeServer) -> None:
    def connections() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    Client(server.address).close()
    first = Client(server.address)
    first.get_account("a")
    open_with_one = connections()
    for _ in range(10):
        with Client(server.address) as client:
            client.get_account("a")
    end = threading.Event()
    for _ in range(100):
        if connections() <= open_with_one + 2:
            break
        end.wait(0.02)
    assert connections() <= open_with_one + 2
    first.close()


def test_threads_share_one_channel(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    connect = Processes._connect

    def counted(processes: Processes) -> grpc.Channel:
        made.append(connect(processes))
        channel: grpc.Channel = made[-1]
        return channel

    monkeypatch.setattr(Processes, "_connect", counted)
    barrier = threading.Barrier(8)
    with Client(server.address) as client:

        def call() -> None:
            barrier.wait()
            client.get_account("a")

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.asked) == 8
    assert len(made) == 1


def test_an_async_client_serves_one_event_loop_after_the_other(server: FakeServer) -> None:
    client = AsyncClient(server.address)

    async def work() -> None:
        await client.get_account("a")
        await client.get_account("a")
        channel = client._loops.here().channel
        assert channel is not None
        await channel.close()

    asyncio.run(work())
    asyncio.run(work())
    assert len(server.asked) == 4


async def test_an_async_client_is_not_used_on_both_sides_of_a_fork(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient(server.address) as client:
        await client.get_account("a")
        real = os.getpid()
        with monkeypatch.context() as patch:
            patch.setattr("creditgate._channels.os.getpid", lambda: real + 1)
            with pytest.raises(RuntimeError, match="after the fork"):
                await client.get_account("a")


FORK = """
import os, signal, sys
import creditgate

client = creditgate.Client(sys.argv[1], budget_s=5)
client.get_account("parent")
guard = client.hold("acct", "job", action="x", ttl=1)
guard.__enter__()
child = os.fork()
if not child:
    signal.alarm(20)
    client.get_account("child")
    with client.hold("acct", "in the child", action="x", ttl=1):
        client.get_account("child")
    try:
        raise SystemExit(0)
    except SystemExit as error:
        guard.__exit__(type(error), error, None)
    client.close()
    os._exit(0)
client.get_account("parent")
_, status = os.waitpid(child, 0)
assert status == 0, status
client.get_account("parent")
guard.settle()
guard.__exit__(None, None, None)
client.close()
"""


def test_a_process_that_is_forked_connects_for_itself(server: FakeServer) -> None:
    result = subprocess.run(
        [
            sys.executable,
            *("-W", "error"),
            # Python 3.12 warns of what is tested here.
            *("-W", "ignore:This process:DeprecationWarning"),
            *("-c", FORK, server.address),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    asked = [asked.request.account_id for asked in server.asked if asked.method == "get_account"]
    assert sorted(asked) == ["child", "child", "parent", "parent", "parent"]
    assert server.requests("refund") == []
    assert server.hold("acct", "job").charged == 10
    assert server.hold("acct", "in the child").charged == 10


def test_credentials_make_the_connection_tls(server: FakeServer, clock: Clock) -> None:
    client = Client(
        server.address,
        credentials=grpc.ssl_channel_credentials(),
        budget_s=0,
        timing=clock.timing,
        sleep=clock.sleep,
    )
    with client, pytest.raises(creditgate.Unavailable):
        client.get_account("a")
    assert server.asked == []


async def test_the_server_is_told_who_asks(client: AnyClient, server: FakeServer) -> None:
    await client.get_account("a")
    agent = server.asked[0].metadata["user-agent"]
    assert agent.startswith("creditgate-python/")


async def test_options_of_grpc_may_be_given(server: FakeServer, clock: Clock) -> None:
    options = [("grpc.max_receive_message_length", 1)]
    client = Client(server.address, options=options, budget_s=0)
    with client, pytest.raises(creditgate.OutcomeUnknown):
        client.authorize("a", "h", action="x")
    other = make_client("async", server.address, clock)
    assert (await other.authorize("a", "h", action="x")).replayed
    await other.close()


BARE = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"creditgate_server", "redis", "typer", "structlog", "pydantic"}:
            raise ImportError(name)

sys.meta_path.insert(0, Only())
import creditgate
for name in creditgate.__all__:
    getattr(creditgate, name)
assert not {"creditgate_server", "redis"} & set(sys.modules)
"""


def test_the_client_needs_nothing_of_the_server() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", BARE], check=True, timeout=30)
