"""The same id again: the same answer with the same content, a refusal with other content."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core.commands import Kind, LateSettle, Overage, ReturnPolicy
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import Price, Rounding
from creditgate_server.core.results import Decision, HoldState
from tests.ledger.bench import START_MS, TTL_MS, Ask, Bench, refused, terms
from tests.ledger.histories import content_fields, other_than, twisted

# At every point of a hold's life.


async def after_authorize(ledger: Bench) -> HoldState:
    del ledger
    return HoldState.OPEN


async def after_a_part(ledger: Bench) -> HoldState:
    await ledger.run(ledger.ask.settle("job", 2, operation_id="part", partial=True))
    return HoldState.OPEN


async def after_a_raise(ledger: Bench) -> HoldState:
    await ledger.run(ledger.ask.extend("job", amount=9))
    return HoldState.OPEN


async def after_the_settle(ledger: Bench) -> HoldState:
    await ledger.run(ledger.ask.settle("job", 3))
    return HoldState.SETTLED


async def after_the_refund(ledger: Bench) -> HoldState:
    await ledger.run(ledger.ask.refund("job"))
    return HoldState.REFUNDED


async def at_the_deadline(ledger: Bench) -> HoldState:
    ledger.advance(TTL_MS)
    return HoldState.EXPIRED


async def after_the_expiry(ledger: Bench) -> HoldState:
    ledger.advance(TTL_MS)
    await ledger.run(ledger.ask.expire("job"))
    return HoldState.EXPIRED


async def after_a_late_settle(ledger: Bench) -> HoldState:
    ledger.advance(TTL_MS)
    await ledger.run(ledger.ask.settle("job", 3))
    return HoldState.SETTLED


POINTS = [
    after_authorize,
    after_a_part,
    after_a_raise,
    after_the_settle,
    after_the_refund,
    at_the_deadline,
    after_the_expiry,
    after_a_late_settle,
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
async def test_a_retry_does_not_hold_twice(ledger: Bench, point: Any) -> None:
    """P3, P5: and is told how the hold stands at that moment."""
    authorize = ledger.ask.authorize("job", 6)
    await ledger.run_all(ledger.ask.grant("pack", 10), authorize)
    state = await point(ledger)
    again = await ledger.run(authorize)
    assert (again.decision, again.amount, again.replayed) == (Decision.APPROVED, 6, True)
    assert again.hold is not None
    assert again.hold.state is state
    assert again.hold == await ledger.run(ledger.ask.hold("job"))
    assert len([e for e in await ledger.entries() if e.verb.value == "authorize"]) == 1


async def test_a_retry_is_not_declined_because_its_own_first_attempt_holds_the_credits(
    ledger: Bench,
) -> None:
    authorize = ledger.ask.authorize("job", 10)
    await ledger.run_all(ledger.ask.grant("pack", 10), authorize)
    assert (await ledger.run(authorize)).replayed


@pytest.mark.parametrize(
    "change",
    [
        {"terms": None},
        {"terms": terms(99)},
        {"rules": c.Rules(ranks="7654321", on_failed=ReturnPolicy.FORFEIT)},
    ],
    ids=["unpriced", "dearer", "reordered"],
)
async def test_a_change_of_catalog_does_not_make_a_retry_another_request(
    ledger: Bench, change: dict[str, Any]
) -> None:
    authorize = ledger.ask.authorize("job", 6, max_amount=6)
    await ledger.run_all(ledger.ask.grant("pack", 10), authorize)
    again = await ledger.run(dataclasses.replace(authorize, **change))
    assert (again.replayed, again.amount) == (True, 6)


async def test_a_retry_of_a_charge_does_not_charge_twice(ledger: Bench) -> None:
    charge = ledger.ask.charge("job", 6)
    await ledger.run_all(ledger.ask.grant("pack", 20), charge)
    again = await ledger.run(charge)
    assert (again.decision, again.amount, again.replayed) == (Decision.APPROVED, 6, True)
    await ledger.run(ledger.ask.refund("job"))
    again = await ledger.run(charge)
    assert again.replayed
    assert again.hold is not None
    assert again.hold.refunded == 6
    assert again.totals.available == 20


@pytest.mark.parametrize("operation_id", ["", "mine"])
async def test_a_retry_of_a_settle_is_told_the_first_answer(
    ledger: Bench, operation_id: str
) -> None:
    settle = ledger.ask.settle("job", 8, operation_id=operation_id)
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("job", terms(6)))
    first = await ledger.run(settle)
    assert (first.charged, first.shortfall, first.replayed) == (6, 2, False)
    ledger.advance(TTL_MS)
    again = await ledger.run(settle)
    assert again.replayed
    assert (again.charged, again.shortfall, again.returned, again.late) == (6, 2, 0, False)
    await ledger.run(ledger.ask.refund("job", 1, operation_id="back"))
    again = await ledger.run(settle)
    assert (again.charged, again.hold.refunded, again.totals.available) == (6, 1, 5)


async def test_a_retry_of_a_part_is_told_the_first_answer_at_every_later_point(
    ledger: Bench,
) -> None:
    part = ledger.ask.settle("job", 2, operation_id="part", partial=True)
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("job", 6), part)
    for state in (HoldState.OPEN, HoldState.EXPIRED, HoldState.SETTLED):
        again = await ledger.run(part)
        assert (again.charged, again.replayed, again.hold.state) == (2, True, state)
        assert not again.late
        if state is HoldState.OPEN:
            ledger.advance(TTL_MS)
        else:
            await ledger.run(ledger.ask.settle("job", 1))


async def test_a_retry_of_a_late_settle_is_late_too(ledger: Bench) -> None:
    settle = ledger.ask.settle("job")
    await ledger.run_all(ledger.ask.grant("pack", 6), ledger.ask.authorize("job", 6))
    ledger.advance(TTL_MS)
    await ledger.run(ledger.ask.expire("job"))
    await ledger.run_all(ledger.ask.charge("meanwhile", 1), settle)
    again = await ledger.run(settle)
    assert (again.charged, again.shortfall, again.late, again.replayed) == (5, 1, True, True)


async def test_a_retry_of_a_refund_gives_nothing_back_a_second_time(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.authorize("job", 6),
        ledger.ask.settle("job"),
    )
    part, rest = ledger.ask.refund("job", 2, operation_id="part"), ledger.ask.refund("job")
    await ledger.run_all(part, rest)
    for refund, amount in ((part, 2), (rest, 4), (part, 2)):
        again = await ledger.run(refund)
        assert (again.refunded, again.replayed, again.totals.available) == (amount, True, 10)


async def test_two_settles_of_one_id_within_milliseconds_take_once(ledger: Bench) -> None:
    settle = ledger.ask.settle("job", 4)
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("job", 6))
    replies = [await ledger.run(settle)]
    ledger.advance(1)
    replies.append(await ledger.run(settle))
    assert [(reply.charged, reply.replayed) for reply in replies] == [(4, False), (4, True)]
    assert (await ledger.run(ledger.ask.balance())).totals.available == 6


async def test_settles_and_refunds_of_one_hold_share_their_operation_ids(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.authorize("job", 6),
        ledger.ask.settle("job", 4, operation_id="mine"),
    )
    with refused(Reason.ID_REUSED, id="mine"):
        await ledger.run(ledger.ask.refund("job", 4, operation_id="mine"))
    await ledger.run(ledger.ask.refund("job", 4, operation_id="other"))
    with refused(Reason.ID_REUSED, id="other"):
        await ledger.run(ledger.ask.settle("job", 4, operation_id="other"))


async def test_operation_ids_of_different_holds_do_not_meet(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.authorize("one", 3),
        ledger.ask.authorize("two", 4),
        ledger.ask.settle("one", 3, operation_id="mine"),
    )
    reply = await ledger.run(ledger.ask.settle("two", 4, operation_id="mine"))
    assert (reply.charged, reply.replayed) == (4, False)


async def test_operation_ids_that_begin_alike_do_not_meet(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("job", 9))
    for operation_id in ("ab", "a", "b", "abc", "a.b", "a-b", "s", "r", "1", "11"):
        reply = await ledger.run(
            ledger.ask.settle("job", 0, operation_id=operation_id, partial=True)
        )
        assert not reply.replayed


# Other content. The commands and their mutations come from the dataclasses: a new field is covered
# by being there, and one whose sort `other_than` does not know fails here.

JOB = c.Job(action="video.generate", model="tall", quantity=3, settings=(("resolution", "1080p"),))


def bare(ask: Ask) -> list[c.Command[Any]]:
    """Each command that an id names, with nothing but what it must have."""
    return [
        ask.authorize("job", 3),
        ask.charge("job", 3),
        ask.settle("job", operation_id="mine"),
        ask.refund("job", operation_id="mine"),
        ask.grant("pack", 100),
    ]


def full(ask: Ask) -> list[c.Command[Any]]:
    """The same with every field set."""
    return [
        ask.authorize("job", 3, JOB, ttl_ms=5000, max_amount=9, member_id="ada"),
        ask.charge("job", 3, JOB, max_amount=9, member_id="ada"),
        ask.settle("job", 2, operation_id="mine", quantity=2, partial=True),
        ask.refund("job", 2, operation_id="mine", cancelled=True),
        ask.grant(
            "pack",
            100,
            Kind.REFERRAL,
            ends_ms=START_MS + TTL_MS,
            actions=("video.generate", "image.generate"),
            models=("tall", "wide"),
        ),
    ]


def mutations() -> Iterator[tuple[str, bool, int, str, Any]]:
    """Every content field of every command, and every field of its job."""
    for name, made in (("bare", bare), ("full", full)):
        for place, command in enumerate(made(Ask("?"))):
            for field in content_fields(command):
                yield f"{type(command).__name__}.{field}-{name}", name == "full", place, field, None
            if isinstance(command, c.Authorize | c.Charge):
                for part, value in command.job._asdict().items():
                    changed: Any = other_than(value, part)
                    if part == "settings":
                        changed = (("a", "b"),)
                    job = command.job._replace(**{part: changed})
                    label = f"{type(command).__name__}.job.{part}-{name}"
                    yield label, name == "full", place, "job", job


MUTATIONS = list(mutations())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[label for label, *_ in MUTATIONS])
async def test_an_id_used_again_with_other_content_is_refused_and_changes_nothing(
    ledger: Bench, mutation: tuple[str, bool, int, str, Any]
) -> None:
    """P6: and the refusal tells nothing of the first."""
    _, is_full, place, field, value = mutation
    command = (full if is_full else bare)(ledger.ask)[place]
    await ledger.run(ledger.ask.grant("means", 100))
    used = "pack" if isinstance(command, c.Grant) else "job"
    if isinstance(command, c.Settle | c.Refund):
        used = "mine"
        await ledger.run(ledger.ask.authorize("job", 3))
    if isinstance(command, c.Refund):
        await ledger.run(ledger.ask.settle("job"))
    first = await ledger.run_all(command)
    before = await ledger.snapshot()
    if value is None:
        other = twisted(command, field)
    else:
        other = dataclasses.replace(command, **{field: value})
    with refused(Reason.ID_REUSED, id=used):
        await ledger.run_all(other)
    assert await ledger.snapshot() == before
    [again] = await ledger.run_all(command)
    assert (again.replayed, first[0].replayed) == (True, False)


def test_a_fingerprint_outlives_releases() -> None:
    """Ids that are remembered were fingerprinted by an earlier release: these never change."""
    commands = (*bare(Ask("?")), *full(Ask("?")))
    assert [command.fingerprint for command in commands] == [
        *("a2b55e8c519c6955", "80d8394d652c0df5", "f624fbef5309bdfb", "96ee28816daa878b"),
        *("c4fb6a8b7a161b48", "d0445c5b0be88533", "d50570e9bb43f2ca", "879478b70ef84d81"),
        *("96a22c859a1c1def", "bd77360bd73cb56e"),
    ]


def test_every_command_that_an_id_names_is_mutated() -> None:
    named = {type(command) for command in full(Ask("?"))}
    all_commands = set(c.Command.__subclasses__())
    unnamed = {
        c.Extend,  # Says the new total, so that a retry draws nothing twice.
        c.Expire,
        c.PutAccount,
        c.VoidBucket,
        c.GetHold,
        c.ListHolds,
        c.GetBalance,
        c.GetAccount,
        c.SetFrozen,
        c.SetMemberLimit,
        c.ListLedger,
    }
    elsewhere = {c.Reschedule}  # In test_subscriptions.py.
    assert named | unnamed | elsewhere == all_commands


def test_every_optional_field_is_set_in_the_full_commands() -> None:
    for command in full(Ask("?")):
        for spec in dataclasses.fields(command):
            if spec.metadata.get("content", True):
                assert getattr(command, spec.name) != spec.default, spec.name


def test_fields_that_are_swapped_make_another_fingerprint() -> None:
    ask = Ask("?")
    pairs: list[tuple[c.Command[Any], c.Command[Any]]] = [
        (ask.settle("job", amount=3), ask.settle("job", quantity=3)),
        (ask.settle("a", operation_id="b"), ask.settle("b", operation_id="a")),
        (
            ask.grant("pack", 1, actions=("x",)),
            ask.grant("pack", 1, models=("x",)),
        ),
        (
            ask.grant("pack", 1, actions=("x", "y")),
            ask.grant("pack", 1, actions=("x,y",)),
        ),
        (ask.authorize("job", 1), ask.charge("job", 1)),
        (ask.settle("job", operation_id="a"), ask.refund("job", operation_id="a")),
    ]
    for one, other in pairs:
        assert one.fingerprint != other.fingerprint


async def test_terms_and_rules_of_every_sort_come_back_as_they_were_pinned(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 1000))
    for number, rounding in enumerate(Rounding):
        price = Price(
            flat=number, numerator=3, denominator=7, minimum=2, rounding=rounding, unit="second"
        )
        pinned = terms(
            price,
            quantity=3,
            overage=list(Overage)[number],
            late_settle=list(LateSettle)[number % 2],
            catalog_version=f"2026-11-{number}",
        )
        reply = await ledger.run(ledger.ask.authorize(f"job-{number}", pinned, JOB))
        assert reply.hold is not None
        assert (reply.hold.price, reply.hold.catalog_version) == (price, pinned.catalog_version)
