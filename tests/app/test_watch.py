"""A server keeps an eye on its store, on its holds and on its end."""

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # not marked

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import CreditOutcome, Reason
from creditgate_server.store import embedded
from tests.crash.load import Load, audit, decide, lost, told_the_truth
from tests.crash.process import Server, begin, channel_to, server
from tests.rpc.shop import IMAGE, ONE, Account, refusal, refused, send, shop

HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING = health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()
NOT_SERVING = health_pb2.HealthCheckResponse(status="NOT_SERVING").SerializeToString()


def until(condition: Callable[[], bool], *, limit_s: float) -> float:
    """Wait for something; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + limit_s, "in vain"
        time.sleep(0.01)
    return time.monotonic() - began


def health(channel: grpc.Channel) -> bytes:
    return send(channel, HEALTH, b"")


@pytest.mark.parametrize(
    ("name", "unsafe", "safe"),
    [
        ("appendfsync", "no", "always"),
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
def test_a_store_that_becomes_unsafe_is_noticed_and_starts_nothing(
    tmp_path: Path, name: str, unsafe: str, safe: str
) -> None:
    with shop(tmp_path, check_s=0.05) as found:
        account = found.account(100)
        hold_id = account.hold()
        command = found.running.ledger.link.command

        async def configure(value: str) -> None:
            await command("CONFIG", "SET", name, value)

        found.run(configure(unsafe))
        until(lambda: health(found.channel) == NOT_SERVING, limit_s=5)
        with refused(Reason.STORE_UNAVAILABLE):
            account.authorize(hold_id="another", job=IMAGE)
        assert account.settle(hold_id=hold_id).charged == 10
        found.run(configure(safe))
        until(lambda: health(found.channel) == SERVING, limit_s=5)
        account.hold(hold_id="another")


def test_the_collector_of_the_process_is_as_before_when_a_server_has_ended(tmp_path: Path) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        with shop(tmp_path):
            assert gc.get_threshold() == (10_000, 10, 10)
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.set_threshold(*before)


def test_who_watches_health_is_told_of_changes_and_let_go_at_the_end(tmp_path: Path) -> None:
    """A watcher must not hold up the drain, which would else wait for its stream."""
    said: list[bytes] = []
    with server(tmp_path, drain_s=20.0) as running, channel_to(running) as channel:
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(WATCH)
        stream = method(b"", timeout=30)
        said.append(next(stream))
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        said.extend(stream)
        assert running.process.wait(15) == 0
        assert time.monotonic() - began < 5
    assert said == [SERVING, NOT_SERVING]


def test_what_is_no_health_request_is_told_so(tmp_path: Path) -> None:
    with shop(tmp_path) as found:
        for path in (HEALTH, WATCH):
            method: grpc.UnaryStreamMultiCallable[bytes, bytes] = found.channel.unary_stream(path)
            with pytest.raises(grpc.RpcError) as caught:
                list(method(b"\xff\xff", timeout=10))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        unknown = health_pb2.HealthCheckRequest(service="none").SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            send(found.channel, HEALTH, unknown)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("number", range(3))
def test_a_drain_under_load_loses_nothing(tmp_path: Path, number: int) -> None:
    accounts = ["one", "two"]
    running = begin(tmp_path)
    try:
        load = Load(accounts, seed=number)
        with channel_to(running) as channel:
            for account_id in accounts:
                account = Account(channel, account_id)
                account.put_account()
                account.grant("start", 100_000)
            load.start(channel)
            until(lambda: len(load.record.answered) > 200, limit_s=20)
            assert running.end() == 0
            load.stop()
        answered = len(load.record.answered)
        running = begin(tmp_path)
        with channel_to(running) as channel:
            problems = [*lost(channel, load.record), *decide(channel, load.record)]
            for account_id in accounts:
                problems += audit(Account(channel, account_id), load.record)
        problems += told_the_truth(load.record)
        assert not problems, "\n".join(problems)
        assert answered > 200
    finally:
        if running.process.poll() is None:
            running.kill()


def test_two_sweepers_return_abandoned_holds_in_time_though_one_is_killed(tmp_path: Path) -> None:
    """Never early, and at most 2 s late, by the store's own clock."""
    with (
        embedded.start(None) as store,
        server(tmp_path / "a", redis=store.url) as first,
        server(tmp_path / "b", redis=store.url) as second,
        channel_to(second) as channel,
    ):
        accounts = [Account(channel, f"account-{number}") for number in range(8)]
        deadlines: dict[tuple[str, str], int] = {}
        for account in accounts:
            account.put_account()
            account.grant("pack", 1_000)
            for number in range(12):
                ttl = {"seconds": 1 + number // 6, "nanos": number % 6 * 150_000_000}
                hold = account.authorize(hold_id=f"h-{number}", job=ONE, ttl=ttl).hold
                deadlines[account.account_id, hold.hold_id] = hold.deadline.ToMilliseconds()
        # In the midst of it.
        until(lambda: bool(expired(accounts)), limit_s=5)
        first.kill()
        until(lambda: len(expired(accounts)) == len(deadlines), limit_s=8)
        late_ms = {key: at_ms - deadlines[key] for key, at_ms in expired(accounts).items()}
        assert min(late_ms.values()) >= 0
        assert max(late_ms.values()) <= 2_000
        for account in accounts:
            assert account.figures() == (1_000, 0, 0)
            ended = [e for e in account.ledger() if e.verb == rs.LEDGER_VERB_EXPIRE]
            assert len(ended) == 12


def expired(accounts: list[Account]) -> dict[tuple[str, str], int]:
    return {
        (account.account_id, entry.hold_id): entry.at.ToMilliseconds()
        for account in accounts
        for entry in account.ledger()
        if entry.verb == rs.LEDGER_VERB_EXPIRE
    }


TIMEOUT_S = 0.4


@contextmanager
def stalled(running: Server) -> Iterator[None]:
    pid = running.store_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stalled_store_is_answered_for_in_time_and_recovered_from(tmp_path: Path) -> None:
    """Whatever was asked while it stood still is decided by asking again, and took effect once."""
    found: list[tuple[str, float, CreditOutcome]] = []

    def ask(account: Account, number: int) -> None:
        began = time.monotonic()
        try:
            account.authorize(hold_id=f"h-{number}", job=ONE)
        except grpc.RpcError as error:
            told = refusal(error)
            assert told.reason is Reason.STORE_UNAVAILABLE
            found.append((f"h-{number}", time.monotonic() - began, told.outcome))

    with server(tmp_path, store_timeout_s=TIMEOUT_S) as running, channel_to(running) as channel:
        account = Account(channel, "patient")
        account.put_account()
        account.grant("pack", 1_000)
        with stalled(running):
            threads = [threading.Thread(target=ask, args=(account, n)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            # The connection is given up: what comes now is known not to be applied, at once.
            ask(account, 99)
        assert len(found) == 17
        *first, last = found
        assert {outcome for _, _, outcome in first} == {CreditOutcome.UNKNOWN}
        assert max(took_s for _, took_s, _ in first) < TIMEOUT_S * 1.25 + 0.5
        assert (last[0], last[2]) == ("h-99", CreditOutcome.NOT_APPLIED)

        def works() -> bool:
            try:
                account.get_balance()
            except grpc.RpcError:
                return False
            return True

        assert until(works, limit_s=5) <= 2.0
        for hold_id, _, _ in found:
            account.authorize(hold_id=hold_id, job=ONE)
        assert account.figures() == (983, 17, 0)
        assert [hold.amount for hold in account.open_holds()] == [1] * 17
        assert running.end() == 0


def test_a_store_that_was_killed_ends_its_server_with_an_error(tmp_path: Path) -> None:
    with server(tmp_path) as running, channel_to(running) as channel:
        account = Account(channel, "bereft")
        account.put_account()
        running.kill_store()
        with refused_or_gone():
            account.get_balance()
        assert running.process.wait(10) not in (0, -signal.SIGKILL)
        assert re.search(r"the store (has )?ended by itself", running.said)


@contextmanager
def refused_or_gone() -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_sweeper_survives_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with shop(tmp_path) as found:
        ledger = found.running.ledger
        rounds = iter([ValueError("a record that nobody can read")])
        expire_due = type(ledger).expire_due

        async def stumbling(*args: object, **kwargs: object) -> int:
            for defect in rounds:
                raise defect
            return await expire_due(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(type(ledger), "expire_due", stumbling)
        account = found.account(10)
        account.hold(ttl={"seconds": 1})
        until(lambda: account.figures() == (10, 0, 0), limit_s=5)
    assert "a defect in the search for expired holds" in caplog.text


def test_accounts_survive_a_restart(tmp_path: Path) -> None:
    with shop(tmp_path) as found:
        account = found.account(100)
        account.hold()
        before = account.state()
    with shop(tmp_path) as found:
        assert Account(found.channel, account.account_id).state() == before
