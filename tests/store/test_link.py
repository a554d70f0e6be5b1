"""The connection to the store: each caller gets its own reply, or the truth about it."""

import asyncio
import contextlib
import logging
import random
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from creditgate_server.store import embedded
from creditgate_server.store import link as link_module
from creditgate_server.store.address import Server
from creditgate_server.store.embedded import EmbeddedStore
from creditgate_server.store.link import Limits, Link, StoreError
from creditgate_server.store.script import Script
from tests.store.fake_store import FakeStore

ONE = Script("one", "#!lua\nreturn 1")
ECHO = Script("echo", "#!lua\nreturn ARGV[1]")
OTHER = Script("other", "#!lua\nreturn ARGV[2]")
SECRET = "s3cr3t/#pass"


async def outcome_of(call: "asyncio.Future[Any]") -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    return caught.value


def ask(link: Link, name: str, kind: str = "echo", script: Script = ECHO) -> "asyncio.Future[Any]":
    """Run a script of the fake store."""
    return link.evaluate(script, [f"key-{name}"], [name, kind])


async def one(link: Link) -> Any:
    return await link.evaluate(ONE, [], [])


async def connected(link: Link) -> None:
    async with asyncio.timeout(5):
        # What a server does, too: it looks whether there is a connection.
        while not link.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# Races with a store that misbehaves.


class Race:
    """Many callers at once, some of whom give up, and what each was told."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self.replied: set[bytes] = set()
        self.failed: dict[bytes, StoreError] = {}
        self.gave_up: set[bytes] = set()
        self._url = url
        self._chance = chance

    async def run(self, calls: int) -> None:
        link = await Link.open(self._url, scripts=[ECHO], reply_timeout_s=5)
        try:
            await asyncio.gather(*(self._call(link, number) for number in range(calls)))
        finally:
            await link.close()

    async def _call(self, link: Link, number: int) -> None:
        await asyncio.sleep(self._chance.choice((0, 0, 0.002, 0.01, 0.03)))
        for _ in range(self._chance.randrange(20)):
            await asyncio.sleep(0)
        await connected(link)
        name = f"{number}" + "x" * self._chance.choice((0, 0, 0, 3000))
        kind = self._chance.choice(("echo", "list", "nil", "error", "busy"))
        future = ask(link, name, kind, self._chance.choice((ECHO, OTHER)))
        if self._chance.random() < 0.2:
            self.gave_up.add(name.encode())
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(self._chance.choice((0, 0.0005))):
                    await future
            return
        reply: Any = (await asyncio.gather(future, return_exceptions=True))[0]
        if isinstance(reply, StoreError):
            if reply.code not in ("WRONG", "BUSY"):
                self.failed[name.encode()] = reply
                return
            reply = [reply.code, reply.definite, str(reply).split()[1]]
        assert (
            reply
            == {
                "echo": name,
                "list": [name, len(name), None],
                "nil": None,
                "error": ["WRONG", False, name],
                "busy": ["BUSY", True, name],
            }[kind]
        )
        self.replied.add(name.encode())


async def race(path: Path, seed: int, *, calls: int = 1000, cuts: float, forgets: float) -> Race:
    """Run a race and compare what the callers were told with what the store has done."""
    chance = random.Random(seed)
    async with FakeStore(path, chance) as store:
        store.cuts = cuts
        store.forgets = forgets
        the_race = Race(store.url, chance)
        async with asyncio.timeout(20):
            await the_race.run(calls)
    assert [name for name, times in store.executed.items() if times > 1] == [], "ran twice"
    assert [name for name in the_race.replied if not store.executed[name]] == [], "never ran"
    for name, error in the_race.failed.items():
        assert not (error.definite and store.executed[name]), f"{error}: but it ran"
    return the_race


@pytest.mark.parametrize("seed", range(5))
async def test_every_caller_gets_the_reply_to_its_own_command(tmp_path: Path, seed: int) -> None:
    raced = await race(tmp_path / "s", seed, cuts=0, forgets=0)
    assert raced.failed == {}
    assert len(raced.replied) + len(raced.gave_up) == 1000


@pytest.mark.parametrize("seed", range(5))
async def test_an_emptied_script_cache_is_no_ones_concern(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long this machine stands still in between.
    monkeypatch.setattr(link_module, "AT_ONCE_S", 10.0)
    raced = await race(tmp_path / "s", seed, cuts=0, forgets=0.002)
    # Unlucky ones find the cache empty a second time.
    assert {(error.code, error.definite) for error in raced.failed.values()} <= {("NOSCRIPT", True)}
    assert len(raced.failed) < 250


async def test_cut_connections_make_no_one_lie(tmp_path: Path) -> None:
    errors: list[StoreError] = []
    for seed in range(12):
        raced = await race(tmp_path / f"{seed}", seed, cuts=0.15, forgets=0.002)
        errors += raced.failed.values()
    assert {error.definite for error in errors} == {True, False}, "the races were too tame"


class ForgetsTheCancelled(link_module._Connection):
    def data_received(self, data: bytes) -> None:
        alive = [waiting for waiting in self._pending if not waiting[0].cancelled()]
        self._pending.clear()
        self._pending.extend(alive)
        super().data_received(data)


class PutsTheSecondTryFirst(link_module._Connection):
    def _enqueue(self, future: Any, *rest: Any) -> None:
        super()._enqueue(future, *rest)
        if future is self._nobody:
            self._pending.rotate(1)


class SaysNotAppliedAfterALoss(link_module._Connection):
    def end(self, reason: str) -> None:
        self._unwritten = [b""] * len(self._pending)
        super().end(reason)


class SendsAgainAfterALoss(link_module._Connection):
    lost: ClassVar[list[bytes]] = []

    def end(self, reason: str) -> None:
        self.lost.extend(packed for _, packed, *_ in self._pending)
        super().end(reason)

    def send(self, *command: Any) -> Any:
        while self.lost and self.ready:
            self._enqueue(self._nobody, self.lost.pop(), None)
        return super().send(*command)


@pytest.mark.parametrize(
    ("defect", "faults", "found"),
    [
        (ForgetsTheCancelled, {"cuts": 0, "forgets": 0}, "assert"),
        (PutsTheSecondTryFirst, {"cuts": 0, "forgets": 0.002}, "assert"),
        (SaysNotAppliedAfterALoss, {"cuts": 0.2, "forgets": 0}, "but it ran"),
        (SendsAgainAfterALoss, {"cuts": 0.2, "forgets": 0}, "ran twice|but it ran"),
    ],
)
async def test_a_planted_defect_is_caught(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    defect: type[link_module._Connection],
    faults: dict[str, float],
    found: str,
) -> None:
    monkeypatch.setattr(link_module, "_Connection", defect)

    async def races() -> None:
        for seed in range(5):
            await race(tmp_path / f"{seed}", seed, calls=300, **faults)

    with pytest.raises(AssertionError, match=found):
        await races()


# One caller at a time.


async def test_replies_of_a_real_store_arrive_as_they_are(own_store: EmbeddedStore) -> None:
    script = Script("all", "#!lua\nreturn {1, ARGV[1], redis.status_reply('FINE'), {'a', false}}")
    link = await Link.open(own_store.url, scripts=[script])
    text = "ünï\r\n$5"
    assert await link.evaluate(script, [], [text]) == [1, text, "FINE", ["a", None]]
    assert await link.evaluate(script, ["k"], [7]) == [1, "7", "FINE", ["a", None]]
    assert await link.command("SET", "k", 12) == "OK"
    assert await link.command("GET", b"k") == "12"
    assert await link.command("CLIENT", "GETNAME") == "creditgate"
    no_text = await link.command("ECHO", b"a\xff")
    assert no_text.encode(errors="surrogateescape") == b"a\xff"
    await link.close()


async def test_one_turn_of_the_loop_is_one_write(
    own_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await Link.open(own_store.url, scripts=[ONE])
    assert link._connection is not None
    assert link._connection._transport is not None
    writes: list[bytes] = []

    class Spy:
        write = writes.append

    transport = link._connection._transport
    monkeypatch.setattr(link._connection, "_transport", Spy)
    calls = [asyncio.create_task(one(link)) for _ in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    monkeypatch.undo()
    transport.write(writes[0])
    assert await asyncio.gather(*calls) == [1] * 100
    assert len(writes) == 1
    await link.close()


async def test_a_cancelled_command_completes(own_store: EmbeddedStore) -> None:
    link = await Link.open(own_store.url)
    await link.command("DEL", "n")
    for moment in range(4):
        call = link.command("INCR", "n")
        for _ in range(moment):
            await asyncio.sleep(0)
        call.cancel()
        assert await link.command("GET", "n") == str(moment + 1)
    await link.close()


async def test_a_flushed_script_cache_is_filled_again(own_store: EmbeddedStore) -> None:
    link = await Link.open(own_store.url, scripts=[ONE, ECHO])
    await link.command("SCRIPT", "FLUSH")
    calls = [link.evaluate(ECHO, [], [number]) for number in range(20)]
    assert await asyncio.gather(*calls) == [str(number) for number in range(20)]
    assert await link.evaluate(ONE, [], []) == 1
    never_loaded = Script("late", "#!lua\nreturn 'late'")
    assert await link.evaluate(never_loaded, [], []) == "late"
    await link.close()


async def test_a_script_that_does_not_compile_is_refused(own_store: EmbeddedStore) -> None:
    broken = Script("broken", "#!lua\nreturn 1 +")
    with pytest.raises(StoreError, match="load script broken"):
        await Link.open(own_store.url, scripts=[ONE, broken])
    link = await Link.open(own_store.url)
    error = await outcome_of(link.evaluate(broken, [], []))
    assert (error.definite, error.code) == (True, "NOSCRIPT")
    await link.close()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("return redis.error_reply('MINE x')", "MINE"),
        ("redis.call('SET', KEYS[1], 1) return redis.call('LPUSH', KEYS[1], 1)", "WRONGTYPE"),
        ("redis.call('SET', KEYS[1], 1) return nothing.here", "ERR"),
        ("redis.call('SET', KEYS[1], 1) error({err='OOM inside'})", "OOM"),
    ],
)
async def test_an_error_inside_a_script_leaves_the_outcome_open(
    own_store: EmbeddedStore, script: str, code: str
) -> None:
    link = await Link.open(own_store.url)
    error = await outcome_of(link.evaluate(Script("bad", f"#!lua\n{script}"), ["k"], []))
    assert (error.code, error.definite) == (code, False)
    assert link.connected
    await link.close()


WRITE = Script("write", "#!lua\nreturn redis.call('SET', KEYS[1], 1)")


@pytest.mark.parametrize(
    ("before", "code", "after"),
    [
        ("CONFIG SET maxmemory 1mb", "OOM", "CONFIG SET maxmemory 0"),
        (
            "CONFIG SET min-replicas-to-write 1",
            "NOREPLICAS",
            "CONFIG SET min-replicas-to-write 0",
        ),
        ("ACL SETUSER default -evalsha", "NOPERM", "ACL SETUSER default +evalsha"),
    ],
)
async def test_what_the_store_refuses_to_start_was_not_applied(
    own_store: EmbeddedStore, before: str, code: str, after: str
) -> None:
    link = await Link.open(own_store.url, scripts=[WRITE])
    await link.command(*before.split())
    error = await outcome_of(link.evaluate(WRITE, ["k"], []))
    await link.command(*after.split())
    assert (error.code, error.definite) == (code, True)
    assert await link.evaluate(WRITE, ["k"], []) == "OK"
    await link.close()


async def test_a_busy_store_was_not_applied(own_store: EmbeddedStore) -> None:
    endless = Script("endless", "#!lua\nwhile true do end")
    link, other = await Link.open(own_store.url), await Link.open(own_store.url)
    await link.command("CONFIG", "SET", "busy-reply-threshold", 1)
    call = link.evaluate(endless, [], [])
    # Answered as usual until the script has run for a while.
    while (await asyncio.gather(other.command("PING"), return_exceptions=True))[0] == "PONG":
        pass
    error = await outcome_of(other.evaluate(ONE, [], []))
    assert (error.code, error.definite) == ("BUSY", True)
    await other.command("SCRIPT", "KILL")
    assert not (await outcome_of(call)).definite
    await asyncio.gather(link.close(), other.close())


async def test_a_demoted_store_is_left(data_dir: Path) -> None:
    with embedded.start(data_dir) as store:
        link = await Link.open(store.url, scripts=[WRITE])
        await link.command("REPLICAOF", "127.0.0.1", 1)
        error = await outcome_of(link.evaluate(WRITE, ["k"], []))
        assert (error.code, error.definite) == ("READONLY", True)
        assert not link.connected
        await connected(link)
        await link.command("REPLICAOF", "NO", "ONE")
        assert await link.evaluate(WRITE, ["k"], []) == "OK"
        await link.close()


async def test_what_was_sent_to_a_demoted_store_is_still_answered(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s", random.Random(1)) as store:
        link = await Link.open(store.url, scripts=[ECHO])
        refused = ask(link, "a", "readonly")
        calls = [ask(link, f"{number}" + "x" * 3000) for number in range(50)]
        assert (await outcome_of(refused)).definite
        replies = await asyncio.gather(*calls)
        assert [reply.rstrip("x") for reply in replies] == [str(number) for number in range(50)]
        await connected(link)
        assert store.connections == 2
        await link.close()


async def test_a_killed_store_leaves_commands_unknown_and_is_found_again(data_dir: Path) -> None:
    with embedded.start(data_dir) as store:
        link = await Link.open(store.url, scripts=[ONE])
        await link.command("SCRIPT", "FLUSH")
        call = link.command("BLPOP", "nothing", 0)
        await asyncio.sleep(0)
        store.stop()
        assert not (await outcome_of(call)).definite
        error = await outcome_of(link.evaluate(ONE, [], []))
        assert error.definite
        assert "not connected" in str(error)
    with embedded.start(data_dir) as store:
        began = time.monotonic()
        await connected(link)
        assert time.monotonic() - began < 1.5
        assert await link.evaluate(ONE, [], []) == 1
        await link.close()


async def test_what_was_never_written_was_not_applied(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO])
        written = ask(link, "written")
        await asyncio.sleep(0)
        unwritten = ask(link, "unwritten")
        assert link._connection is not None
        link._connection.end("cut")
        assert not (await outcome_of(written)).definite
        assert (await outcome_of(unwritten)).definite
        await connected(link)
        assert await ask(link, "later") == "later"
        await link.close()
    assert b"unwritten" not in store.executed


async def test_a_store_that_reads_nothing_gets_no_more_than_the_buffers_hold(
    tmp_path: Path,
) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO], reply_timeout_s=0.2)
        store.hearing.clear()
        # It was listening already.
        await ask(link, "heard")
        calls = []
        for number in range(100):
            calls.append(ask(link, f"{number}" + "x" * 50_000))
            await asyncio.sleep(0)
        errors = [await outcome_of(call) for call in calls]
        definite = [error.definite for error in errors]
        # Those written come first.
        assert definite == sorted(definite)
        assert 0 < sum(definite) < 100
        store.hearing.set()
        await connected(link)
        await link.close()


async def test_a_paused_writer_goes_on_when_the_store_reads_again(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO])
        store.hearing.clear()
        # It was listening already.
        await ask(link, "heard")
        calls = []
        for number in range(100):
            calls.append(ask(link, f"{number}" + "x" * 50_000))
            await asyncio.sleep(0)
        assert link._connection is not None
        assert link._connection._paused
        store.hearing.set()
        replies = await asyncio.gather(*calls)
        assert [reply.rstrip("x") for reply in replies] == [str(n) for n in range(100)]
        await link.close()


async def test_a_silent_store_is_left_after_the_time_out(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO], reply_timeout_s=0.1)
        store.silent.set()
        began = time.monotonic()
        errors = await asyncio.gather(outcome_of(ask(link, "a")), outcome_of(ask(link, "b")))
        assert 0.1 <= time.monotonic() - began < 0.3
        assert [error.definite for error in errors] == [False, False]
        assert "0.1 s" in str(errors[0])
        store.silent.clear()
        await connected(link)
        assert await ask(link, "c") == "c"
        assert store.connections == 2
        await link.close()


async def test_slow_but_steady_replies_do_not_hide_one_that_waits_too_long(
    own_store: EmbeddedStore,
) -> None:
    link = await Link.open(own_store.url, reply_timeout_s=0.2)
    steps = [link.command("BLPOP", "nothing", "0.09") for _ in range(10)]
    replies = await asyncio.gather(*steps, return_exceptions=True)
    assert replies[0] is None
    assert isinstance(replies[-1], StoreError)
    assert not replies[-1].definite
    await link.close()


async def test_our_own_pause_is_not_taken_for_the_stores(own_store: EmbeddedStore) -> None:
    link = await Link.open(own_store.url, scripts=[ONE], reply_timeout_s=0.04)
    for _ in range(5):
        call = link.evaluate(ONE, [], [])
        await asyncio.sleep(0)
        # The process is stopped, or something blocks the loop.
        time.sleep(0.1)  # noqa: ASYNC251
        assert await call == 1
    await link.close()


async def test_an_idle_link_does_not_time_out(own_store: EmbeddedStore) -> None:
    link = await Link.open(own_store.url, reply_timeout_s=1.0)
    await asyncio.sleep(1.3)
    assert link.connected
    # And what comes then has its whole time.
    assert await link.command("BLPOP", "nothing", "0.6") is None
    assert link.connected
    await link.close()


async def test_a_flood_is_bounded(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO], pending_max=10)
        calls = [ask(link, str(number)) for number in range(11)]
        assert link.pending == 10
        error = await outcome_of(calls.pop())
        assert error.definite
        assert "too slow" in str(error)
        assert len(await asyncio.gather(*calls)) == 10
        assert await ask(link, "again") == "again"
        await link.close()
    assert b"10" not in store.executed


@pytest.mark.parametrize(
    "nonsense", [b"+unasked\r\n", b"?\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_a_reply_to_nothing_ends_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, nonsense: bytes
) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO])
        connection = link._connection
        store.say(nonsense)
        assert connection is not None
        await connection.ended
        await connected(link)
        assert await ask(link, "a") == "a"
        await link.close()
    assert "not a reply to anything" in caplog.text
    assert "asyncio" not in {record.name for record in caplog.records}


async def test_closing_waits_for_what_was_sent(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s", random.Random(1)) as store:
        link = await Link.open(store.url, scripts=[ECHO])
        calls = [ask(link, str(number)) for number in range(50)]
        closing = asyncio.create_task(link.close())
        assert await asyncio.gather(*calls) == [str(number) for number in range(50)]
        await closing
        error = await outcome_of(ask(link, "late"))
        assert error.definite
        assert "closed" in str(error)
        await link.close()


async def test_closing_can_be_cut_short(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url, scripts=[ECHO])
        store.silent.set()
        call = ask(link, "a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.close(), 0.05)
        assert not (await outcome_of(call)).definite


async def test_closing_includes_connections_that_were_left(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s", random.Random(1)) as store:
        link = await Link.open(store.url, scripts=[ECHO])
        refused = ask(link, "a", "readonly")
        calls = [ask(link, f"{number}" + "x" * 3000) for number in range(50)]
        await outcome_of(refused)
        await link.close()
        assert all(call.done() and not call.exception() for call in calls)


async def test_closing_does_not_wait_for_a_store_that_is_gone(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url)
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await link.close()


@pytest.mark.parametrize(("stable_s", "at_least", "at_most"), [(1.0, 2, 12), (0.0, 15, 1000)])
async def test_only_an_unstable_store_is_returned_to_with_pauses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stable_s: float,
    at_least: int,
    at_most: int,
) -> None:
    monkeypatch.setattr(link_module, "_STABLE_S", stable_s)
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            await connected(link)
            store.drop_all()
            await asyncio.sleep(0.001)
        assert at_least < store.connections < at_most
        await link.close()


async def test_an_absent_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent.*No such file") as caught:
        await Link.open(f"unix://{tmp_path}/absent")
    assert caught.value.definite
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1: .*refused"):
        await Link.open("redis://127.0.0.1:1")


async def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        store.silent.set()
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"no answer within 0\.1 s"):
            await Link.open(store.url, connect_timeout_s=0.1)
        assert time.monotonic() - began < 0.5


# Who we are, and what we do not say.


async def test_a_user_logs_in_and_chooses_a_database(own_store: EmbeddedStore) -> None:
    admin = await Link.open(own_store.url)
    await admin.command("ACL", "SETUSER", "gate", "on", f">{SECRET}", "~*", "+@all", "-client")
    url = own_store.url.replace("unix://", "unix://gate:s3cr3t%2F%23pass@") + "?db=3"
    link = await Link.open(url, scripts=[ONE])
    assert await link.command("ACL", "WHOAMI") == "gate"
    await link.command("SET", "only-in-3", 1)
    assert await admin.command("EXISTS", "only-in-3") == 0
    await admin.command("ACL", "DELUSER", "gate")
    await link.close()
    await admin.close()


@pytest.mark.parametrize("user", ["", "nobody"])
async def test_a_wrong_password_is_refused_and_not_repeated(
    own_store: EmbeddedStore, user: str
) -> None:
    admin = await Link.open(own_store.url)
    await admin.command("CONFIG", "SET", "requirepass", "right")
    url = own_store.url.replace("unix://", f"unix://{user}:s3cr3t%2F%23pass@")
    with pytest.raises(StoreError) as caught:
        await Link.open(url)
    await admin.command("CONFIG", "SET", "requirepass", "")
    await admin.close()
    assert caught.value.definite
    assert "cannot log in: WRONGPASS" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_no_error_repr_or_log_holds_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeStore(tmp_path / "s") as store:
        url = store.url.replace("unix://", "unix://gate:s3cr3t%2F%23pass@")
        with pytest.raises(StoreError, match="log in") as caught:
            await Link.open(url)
        target = Server.from_url(url)
        link = Link(target, Limits(1, 1, 10))
        link.begin()
        while "cannot use" not in link._reason:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        said = [str(caught.value), repr(caught.value), repr(target), repr(link), repr(vars(link))]
        said.append(str(await outcome_of(link.command("PING"))))
        await link.close()
    assert [text for text in [*said, caplog.text] if "s3cr3t" in text or "pass" in text] == []
