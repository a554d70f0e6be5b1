"""Each of these defects of the client's sessions is noticed by a test of `test_sessions`."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from creditgate import AsyncClient, CreditgateError, OutcomeUnknown
from creditgate._session import Desk, TaskSession, Trust
from creditgate.v1.credits_pb2 import SessionRequest, SessionResponse
from tests.client import test_sessions as tests
from tests.client.bench import done
from tests.client.fake import serving

Plant = Callable[[pytest.MonkeyPatch], None]


def answers_swapped(patch: pytest.MonkeyPatch) -> None:
    take = Desk.take

    def planted(self: Desk, response: SessionResponse) -> None:
        numbers = [each.number for each in response.results]
        for each, number in zip(response.results, numbers[1:] + numbers[:1], strict=True):
            each.number = number
        take(self, response)

    patch.setattr(Desk, "take", planted)


def a_number_used_again_when_its_call_was_given_up(patch: pytest.MonkeyPatch) -> None:
    ask = Desk.ask

    def planted(self: Desk, *args: Any) -> Any:
        free = next(n for n in itertools.count(1) if n not in self._waiting)
        self._numbers = itertools.count(free)
        return ask(self, *args)

    patch.setattr(Desk, "ask", planted)


def another_id_with_every_attempt(patch: pytest.MonkeyPatch) -> None:
    message, counter = Desk.message, itertools.count()

    def planted(self: Desk) -> bytes | None:
        body = message(self)
        if body is None:
            return None
        request = SessionRequest.FromString(body)
        for each in request.operations:
            if each.operation.HasField("authorize"):
                each.operation.authorize.member_id = f"m-{next(counter)}"
        return request.SerializeToString(deterministic=True)

    patch.setattr(Desk, "message", planted)


def a_lost_session_taken_for_nothing_done(patch: pytest.MonkeyPatch) -> None:
    end = Desk.end
    patch.setattr(
        Desk,
        "end",
        lambda self, status: end(self, dataclasses.replace(status, outcome="not-applied")),
    )


def a_session_tried_again_and_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trust, "lose", lambda _self: None)


def a_wait_for_others(patch: pytest.MonkeyPatch) -> None:
    ask = TaskSession.ask

    async def planted(self: TaskSession, *args: Any) -> Any:
        await asyncio.sleep(0.006)
        return await ask(self, *args)

    patch.setattr(TaskSession, "ask", planted)


def calls_kept_though_nobody_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "leave", lambda _self, _asked: None)


def a_session_used_before_it_has_begun(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TaskSession, "begun", property(lambda self: not self._desk.over))


def answers_in_the_order_of_the_questions(patch: pytest.MonkeyPatch) -> None:
    take = Desk.take

    def planted(self: Desk, response: SessionResponse) -> None:
        for each, number in zip(response.results, sorted(self._waiting), strict=False):
            each.number = number
        take(self, response)

    patch.setattr(Desk, "take", planted)


END: Any = tests.test_what_the_end_of_a_session_means_is_told_truly

PLANTED: list[tuple[Plant, Any, dict[str, Any]]] = [
    (answers_swapped, tests.chaos_among_tasks, {"seed": 1}),
    (answers_swapped, tests.chaos_among_threads, {"seed": 1}),
    (answers_in_the_order_of_the_questions, tests.test_a_slow_answer_delays_no_other, {}),
    (
        a_number_used_again_when_its_call_was_given_up,
        tests.test_an_answer_that_comes_too_late_is_nobodys,
        {},
    ),
    (another_id_with_every_attempt, tests.chaos_among_tasks, {"seed": 1}),
    (
        a_lost_session_taken_for_nothing_done,
        END,
        {"step": "cut", "kind": OutcomeUnknown, "outcome": "unknown"},
    ),
    (
        a_session_tried_again_and_again,
        tests.test_a_server_without_sessions_is_called_as_before,
        {"status": tests.OLD},
    ),
    (a_wait_for_others, tests.test_a_call_that_finds_a_session_leaves_at_once, {}),
    (
        calls_kept_though_nobody_waits,
        tests.test_callers_that_leave_are_none_of_the_others_business,
        {},
    ),
    (
        a_session_used_before_it_has_begun,
        tests.test_a_way_that_keeps_streams_for_itself_costs_no_call_its_time,
        {},
    ),
]


@pytest.mark.parametrize(
    ("plant", "sentence", "values"),
    PLANTED,
    ids=[f"{plant.__name__}-{sentence.__name__}" for plant, sentence, _ in PLANTED],
)
async def test_a_planted_defect_is_noticed(
    plant: Plant, sentence: Any, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = sentence.__code__.co_varnames[: sentence.__code__.co_argcount]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), sessions=True) as server:
        client = AsyncClient(server.address, timeout_s=0.5, budget_s=0.5)
        script = tests.Script(f"unix:{folder}/script")
        await script.server.start()
        fixtures = {
            "server": server,
            "client": client,
            "script": script,
            "place": f"unix:{folder}/place",
            "monkeypatch": monkeypatch,
        }
        given = {name: (fixtures | values)[name] for name in wanted}
        with monkeypatch.context() as patch:
            plant(patch)
            with pytest.raises((AssertionError, pytest.fail.Exception, CreditgateError)):
                await done(sentence(**given))
        await client.close()
        await script.server.stop()
