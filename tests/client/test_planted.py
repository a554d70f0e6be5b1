"""Each defect that would cost somebody money, planted, and the sentence that must notice it."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from creditgate import RetryPolicy
from creditgate._beats import Beats
from creditgate._channels import Loops, Processes
from creditgate._faults import Status
from creditgate._holds import HoldCore
from creditgate.errors import CreditgateError, OutcomeUnknown
from tests.client import test_beats, test_errors, test_holds, test_retry
from tests.client.bench import AnyClient, Clock, done
from tests.client.fake import SETTLED, UNAVAILABLE, FakeServer

if TYPE_CHECKING:
    from collections.abc import Awaitable

Plant = Callable[[pytest.MonkeyPatch], None]


def another_request_with_every_attempt(patch: pytest.MonkeyPatch) -> None:
    counter = itertools.count()
    for kind in (Processes, Loops):
        ask = kind.ask

        def planted(self: Any, called: Any, body: bytes, timeout_s: float, ask: Any = ask) -> Any:
            # An unknown field, as a new id or a new time stamp would be.
            return ask(self, called, body + b"\xfa\x3e\x01%d" % (next(counter) % 10), timeout_s)

        patch.setattr(kind, "ask", planted)


def a_new_operation_id_with_every_call(patch: pytest.MonkeyPatch) -> None:
    claim = HoldCore._claim

    def planted(self: HoldCore, amount: int | None, quantity: int | None, given: str) -> Any:
        return claim(self, amount, quantity, given or uuid.uuid4().hex)

    patch.setattr(HoldCore, "_claim", planted)


def a_refund_whenever_the_block_fails(patch: pytest.MonkeyPatch) -> None:
    def planted(self: HoldCore, _error: BaseException) -> bool:
        self._final = None
        return False

    patch.setattr(HoldCore, "_settle_failed", planted)


def a_refund_without_a_look(patch: pytest.MonkeyPatch) -> None:
    def planted(self: HoldCore, reason: Any) -> Any:
        yield from self.ask_refund(reason=reason)

    patch.setattr(HoldCore, "_give_back", planted)


def a_last_refusal_that_clears_what_is_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Status, "definite", property(lambda _: True))


def zero_taken_for_not_given(patch: pytest.MonkeyPatch) -> None:
    def planted(retry: RetryPolicy, timeout_s: float | None, budget_s: float | None) -> Any:
        return RetryPolicy(
            timeout_s=timeout_s or retry.timeout_s, budget_s=budget_s or retry.budget_s
        )

    patch.setattr("creditgate._client._policy", planted)


def a_job_that_is_always_run(patch: pytest.MonkeyPatch) -> None:
    enter = HoldCore._enter

    def planted(self: HoldCore) -> Any:
        self._terms = dataclasses.replace(self._terms, run_again=True)
        return enter(self)

    patch.setattr(HoldCore, "_enter", planted)


def an_approval_unless_it_is_denied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("creditgate.errors.Decision.DECISION_APPROVED", 77)


def a_hold_given_up_at_the_first_failure(patch: pytest.MonkeyPatch) -> None:
    def planted(self: Beats, beats: list[Any], error: Exception) -> None:
        del error
        for beat in beats:
            self.drop(beat.hold())

    patch.setattr(Beats, "failed", planted)


def a_lost_hold_that_nobody_hears_of(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HoldCore, "note_lost", lambda _self, _fault: None)


def a_pause_that_the_server_did_not_ask_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("creditgate._faults._pushback", lambda _said, _delay_s: None)


PLANTED: list[tuple[Plant, Any, dict[str, Any]]] = [
    (
        another_request_with_every_attempt,
        test_retry.test_a_retry_is_the_same_request_to_the_last_byte,
        {},
    ),
    (
        a_new_operation_id_with_every_call,
        test_holds.test_a_partial_settle_that_is_called_again_is_the_same_settle,
        {},
    ),
    (
        a_new_operation_id_with_every_call,
        test_holds.test_a_second_run_of_a_job_charges_nothing_that_the_first_has_charged,
        {},
    ),
    (
        a_refund_whenever_the_block_fails,
        test_holds.test_a_settle_of_unknown_outcome_is_never_answered_with_a_refund,
        {"step": UNAVAILABLE},
    ),
    (
        a_refund_without_a_look,
        test_holds.test_a_run_that_fails_does_not_undo_the_other_run_of_its_job,
        {},
    ),
    (
        a_last_refusal_that_clears_what_is_unknown,
        test_retry.test_one_lost_answer_leaves_the_outcome_unknown_until_it_is_judged,
        {
            "attempts": [UNAVAILABLE, test_retry.OVERLOADED],
            "kind": OutcomeUnknown,
            "outcome": "unknown",
        },
    ),
    (zero_taken_for_not_given, test_retry.test_a_budget_of_zero_is_one_attempt, {}),
    (
        a_job_that_is_always_run,
        test_holds.test_a_job_whose_hold_has_ended_is_not_run_again,
        {"state": SETTLED},
    ),
    (
        an_approval_unless_it_is_denied,
        test_errors.test_a_decision_that_nobody_knows_is_no_approval,
        {"decision": 77},
    ),
    (
        a_hold_given_up_at_the_first_failure,
        test_beats.test_a_server_that_stays_away_costs_the_hold,
        {},
    ),
    (
        a_lost_hold_that_nobody_hears_of,
        test_beats.test_extending_stops_at_the_maximum_life_and_the_end_is_noticed,
        {"ttl": 30, "replayed": False},
    ),
    (
        a_pause_that_the_server_did_not_ask_for,
        test_retry.test_a_server_that_asks_for_a_pause_gets_it,
        {},
    ),
]


async def run(sentence: Any, fixtures: dict[str, Any], values: dict[str, Any]) -> None:
    wanted = sentence.__code__.co_varnames[: sentence.__code__.co_argcount]
    given = {name: (fixtures | values)[name] for name in wanted}
    result: Awaitable[None] | None = sentence(**given)
    await done(result)


@pytest.mark.parametrize(
    ("plant", "sentence", "values"),
    PLANTED,
    ids=[f"{plant.__name__}-{sentence.__name__}" for plant, sentence, _ in PLANTED],
)
async def test_a_planted_defect_is_noticed(  # noqa: PLR0917 - fixtures
    plant: Plant,
    sentence: Any,
    values: dict[str, Any],
    client: AnyClient,
    server: FakeServer,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fixtures = {"client": client, "server": server, "clock": clock, "world": test_beats.World()}
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception, CreditgateError)):
            await run(sentence, fixtures, values)
