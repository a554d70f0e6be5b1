"""A loop and a guest: one turn at a time, each thing in its thread, nothing late, nothing lost."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest import mock

import pytest

from creditgate_server.engines import turns as under_test
from creditgate_server.engines.turns import NotShareable, Turns

LIMIT_S = 10.0

here = threading.get_ident


class Guest:
    """A thread that takes a turn whenever it is told to."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._told: list[Callable[[], object]] = []
        self._something = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def turn(self, work: Callable[[], object]) -> None:
        """Do this in a turn of the guest's, soon."""
        self._told.append(work)
        self._something.release()

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def _run(self) -> None:
        self._turns.welcome()
        while self._something.acquire(timeout=10):
            with self._turns:
                self._told.pop(0)()


@contextlib.asynccontextmanager
async def hosting() -> AsyncIterator[tuple[Turns, Guest]]:
    turns = Turns.of(asyncio.get_running_loop())
    yield turns, Guest(turns)


async def test_there_is_one_turn_at_a_time() -> None:
    async with hosting() as (_, guest):
        inside = 0
        met = []

        def enter() -> None:
            nonlocal inside
            inside += 1
            met.append(inside)
            # Lets another thread in, if anything does.
            time.sleep(0.0005)
            inside -= 1

        for _ in range(200):
            guest.turn(enter)
            enter()
            await asyncio.sleep(0)
        await until(lambda: len(met) == 400)
        assert set(met) == {1}


async def test_what_a_guest_makes_ready_runs_in_its_turn_and_the_rest_in_the_loops_thread() -> None:
    async with hosting() as (turns, guest):
        loop = asyncio.get_running_loop()
        ran: dict[str, int] = {}
        done = loop.create_future()

        def note(name: str) -> Callable[[], None]:
            return lambda: ran.update({name: here()})

        def visit() -> None:
            loop.call_soon(note("of the guest"))
            loop.call_soon(lambda: loop.call_soon(note("of the guest, later")))
            turns.hand_over(note("handed over"))
            turns.hand_over(done.set_result, None)

        guest.turn(visit)
        # The guest waits for the end of this turn, and finds this ready: the loop's own. Signals
        # are handled like that.
        time.sleep(0.02)  # noqa: ASYNC251 - the turn shall last
        loop.call_soon(note("of the loop"))
        await asyncio.wait_for(done, LIMIT_S)
        assert ran == {
            "of the guest": guest.ident,
            "of the guest, later": guest.ident,
            "of the loop": here(),
            "handed over": here(),
        }


async def test_what_waited_for_a_guest_goes_on_in_its_turn() -> None:
    async with hosting() as (_, guest):
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        async def wait() -> int:
            await future
            return here()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        guest.turn(lambda: future.set_result(None))
        await until(task.done)
        assert task.result() == guest.ident


async def test_a_timer_that_a_guest_sets_wakes_a_loop_that_sleeps() -> None:
    async with hosting() as (_, guest):
        loop = asyncio.get_running_loop()
        rung: asyncio.Future[float] = loop.create_future()
        began = loop.time()
        # After the loop has gone to sleep for as long as the test may take.
        threading.Timer(
            0.05,
            lambda: guest.turn(lambda: loop.call_later(0.02, lambda: rung.set_result(loop.time()))),
        ).start()
        assert await asyncio.wait_for(rung, LIMIT_S) - began < 1


async def test_a_busy_guest_leaves_the_loop_its_turns() -> None:
    turns = Turns.of(asyncio.get_running_loop())
    stop = threading.Event()

    def hog() -> None:
        turns.welcome()
        while not stop.is_set():
            with turns:
                time.sleep(0.002)

    threading.Thread(target=hog, daemon=True).start()
    try:
        began = time.monotonic()
        for _ in range(50):
            await asyncio.sleep(0)
        # Each turn of the loop waits for one of the guest's, and no longer.
        assert time.monotonic() - began < 2
    finally:
        stop.set()


async def test_what_other_threads_hand_in_meanwhile_is_not_lost() -> None:
    async with hosting() as (_, guest):
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def others(number: int) -> None:
            for each in range(200):
                loop.call_soon_threadsafe(seen.append, number * 1000 + each)

        threads = [threading.Thread(target=others, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            guest.turn(lambda: None)
            await asyncio.sleep(0)
        await until(lambda: len(seen) == 800)
        assert len(set(seen)) == 800


async def test_what_lands_where_only_a_guest_looks_is_found_by_the_loop() -> None:
    async with hosting() as (turns, _):
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        # As another thread does that was interrupted between two steps.
        turns._ready.append(asyncio.Handle(seen.append, (1,), loop))
        loop.call_soon_threadsafe(lambda: None)
        await until(lambda: seen == [1])


async def test_what_makes_itself_ready_for_ever_goes_on_in_the_loops_thread() -> None:
    async with hosting() as (_, guest):
        loop = asyncio.get_running_loop()
        rung = loop.create_future()
        ran: list[int] = []

        def spin() -> None:
            ran.append(here())
            if not rung.done():
                loop.call_soon(spin)

        began = time.monotonic()
        loop.call_later(0.05, rung.set_result, None)
        guest.turn(spin)
        await rung
        assert time.monotonic() - began < LIMIT_S / 2
        assert ran[0] == guest.ident
        assert ran[-1] == here()


def test_a_loop_that_is_stopped_in_a_guests_turn_stops() -> None:
    async def live() -> None:
        async with hosting() as (_, guest):
            done = asyncio.get_running_loop().create_future()
            threading.Timer(0.05, lambda: guest.turn(lambda: done.set_result(None))).start()
            # What comes after it runs in the guest's turn, to the end of the program.
            await done

    began = time.monotonic()
    loop = asyncio.SelectorEventLoop()
    try:
        # Nothing else may wake it.
        loop.call_later(LIMIT_S, lambda: None)
        loop.run_until_complete(live())
    finally:
        loop.close()
    assert time.monotonic() - began < LIMIT_S / 2


async def test_a_file_that_a_guest_takes_away_and_puts_back_is_still_read() -> None:
    """Though the loop has just been told of it as it was before."""
    async with hosting() as (_, guest):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            heard: list[bytes] = []
            loop.add_reader(ours, lambda: None)

            def visit() -> None:
                theirs.send(b"a")
                # The loop learns of it, and waits for its turn.
                time.sleep(0.1)
                loop.remove_reader(ours)
                loop.add_reader(ours, lambda: heard.append(ours.recv(1)))

            guest.turn(visit)
            await asyncio.sleep(0.2)
            await until(lambda: heard == [b"a"])
            loop.remove_reader(ours)


def test_the_end_of_the_program_ends_the_loops_thread_too() -> None:
    async def live() -> None:
        async with hosting() as (_, guest):
            loop = asyncio.get_running_loop()
            guest.turn(lambda: loop.call_soon(exit_with_3))
            await asyncio.sleep(5)

    def exit_with_3() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        asyncio.run(live())
    assert caught.value.code == 3


async def test_a_loop_is_shared_once_however_often_it_is_asked_for() -> None:
    loop = asyncio.get_running_loop()
    assert Turns.of(loop) is Turns.of(loop)


def test_loops_of_another_kind_are_not_shared() -> None:
    with pytest.raises(NotShareable, match="not asyncio's own"):
        Turns.of(mock.Mock(spec=asyncio.AbstractEventLoop))


def test_a_loop_without_the_parts_is_not_shared() -> None:
    loop = asyncio.SelectorEventLoop()
    try:
        ready = loop._ready  # type: ignore[attr-defined]
        loop._ready = list(ready)  # type: ignore[attr-defined]
        with pytest.raises(NotShareable, match="shape"):
            Turns.of(loop)
    finally:
        loop._ready = ready  # type: ignore[attr-defined]
        loop.close()


def test_debug_mode_forbids_it() -> None:
    async def ask() -> None:
        Turns.of(asyncio.get_running_loop())

    with pytest.raises(NotShareable, match="debug"):
        asyncio.run(ask(), debug=True)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "in vain"
        await asyncio.sleep(0.001)


# Planted bugs -----------------------------------------------------------------------------------

Change = Callable[[pytest.MonkeyPatch], None]


def without_a_lock(patch: pytest.MonkeyPatch) -> None:
    class Open:
        acquire = release = lambda _self: True

    made = Turns.__init__

    def make(self: Turns, *given: Any) -> None:
        made(self, *given)
        self._lock = Open()  # type: ignore[assignment]

    patch.setattr(Turns, "__init__", make)


def without_an_own_queue(patch: pytest.MonkeyPatch) -> None:
    """The guest runs what is the loop's."""

    def enter(self: Turns) -> None:
        self._acquire()
        self._first_timer = None

    def leave(self: Turns, *_: object) -> None:
        ready = self._loop._ready
        while ready:
            ready.popleft()._run()
        self._lock.release()

    patch.setattr(Turns, "__enter__", enter)
    patch.setattr(Turns, "__exit__", leave)


def without_a_wake(patch: pytest.MonkeyPatch) -> None:
    wake = asyncio.SelectorEventLoop.call_soon_threadsafe

    def call_soon_threadsafe(self: Any, callback: Any, *given: Any) -> Any:
        return None if callback is under_test._nothing else wake(self, callback, *given)

    patch.setattr(asyncio.SelectorEventLoop, "call_soon_threadsafe", call_soon_threadsafe)


def without_collecting(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Turns, "_collect", lambda _self: None)


def without_a_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(under_test, "_STEPS_MAX", 3_000_000)


def without_a_second_look(patch: pytest.MonkeyPatch) -> None:
    """The loop believes what it was told before its turn."""

    def select(self: Any, timeout_s: float | None = None) -> Any:
        self.turns._lock.release()
        found = self._selector.select(timeout_s)
        self.turns._acquire()
        self.turns._collect()
        return found

    patch.setattr(under_test._SharedSelector, "select", select)


@pytest.mark.parametrize(
    ("plant", "caught_by"),
    [
        (without_a_bound, test_what_makes_itself_ready_for_ever_goes_on_in_the_loops_thread),
        (
            without_a_second_look,
            test_a_file_that_a_guest_takes_away_and_puts_back_is_still_read,
        ),
        (without_a_lock, test_there_is_one_turn_at_a_time),
        (
            without_an_own_queue,
            test_what_a_guest_makes_ready_runs_in_its_turn_and_the_rest_in_the_loops_thread,
        ),
        (without_a_wake, test_a_timer_that_a_guest_sets_wakes_a_loop_that_sleeps),
        (without_collecting, test_what_lands_where_only_a_guest_looks_is_found_by_the_loop),
    ],
)
def test_a_planted_bug_is_caught(
    plant: Change, caught_by: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "LIMIT_S", 1.0)
    plant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError)):
        asyncio.run(caught_by())
