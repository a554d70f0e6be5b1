"""Which credits are drawn first, and which may not be drawn at all."""

import dataclasses
from typing import Any

import pytest

from creditgate_server.core.commands import Job, Kind, Rules
from creditgate_server.core.results import Decision
from tests.ledger.bench import DAY_MS, IMAGE, RULES, START_MS, VIDEO, Bench, moved


def drawn(ledger_entry_moves: list[str]) -> list[str]:
    """The buckets of moves, in order."""
    return [move.partition(": ")[0] for move in ledger_entry_moves]


async def draw_all(ledger: Bench, amount: int, job: Job = IMAGE) -> list[str]:
    """Hold `amount` and tell from which buckets it came, in order."""
    reply = await ledger.run(ledger.ask.authorize("job", amount, job))
    assert reply.decision is Decision.APPROVED
    assert reply.hold is not None
    order = drawn(moved((await ledger.entries())[-1]))
    assert order == [part.bucket_id for part in reply.hold.slices]
    return order


async def test_one_job_may_be_paid_from_several_buckets(ledger: Bench) -> None:
    """R20: subscription first; when it is depleted top-up is used, and one charge may split."""
    await ledger.run_all(
        ledger.ask.grant("top-up", 10),
        ledger.ask.grant("month", 4, Kind.SUBSCRIPTION, ends_ms=START_MS + DAY_MS),
    )
    assert await draw_all(ledger, 6) == ["month", "top-up"]
    assert await ledger.rows() == {
        "month": {"granted": 4, "held": 4},
        "top-up": {"granted": 10, "available": 8, "held": 2},
    }


async def test_a_bucket_that_suffices_is_not_split(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("top-up", 10), ledger.ask.grant("month", 4, Kind.SUBSCRIPTION)
    )
    assert await draw_all(ledger, 4) == ["month"]


@pytest.mark.parametrize(
    ("ranks", "order"),
    [
        # R39: free, subscription, top-up.
        ("1234560", ["COMPENSATION", "FREE", "SUBSCRIPTION", "ADD_ON", "TOP_UP", "PROMOTIONAL"]),
        # R63: subscription, purchased, promotional, referral; R65: though it is not the expiring
        # ones that go first there, the order is the operator's data.
        (
            "9023456",
            ["SUBSCRIPTION", "ADD_ON", "TOP_UP", "PROMOTIONAL", "REFERRAL", "COMPENSATION"],
        ),
        (
            "6543210",
            ["COMPENSATION", "REFERRAL", "PROMOTIONAL", "TOP_UP", "ADD_ON", "SUBSCRIPTION"],
        ),
    ],
)
async def test_the_order_of_kinds_is_the_operators_data(
    ledger: Bench, ranks: str, order: list[str]
) -> None:
    ledger.ask.rules = dataclasses.replace(RULES, ranks=ranks)
    await ledger.run_all(*(ledger.ask.grant(kind.name, 1, kind) for kind in Kind))
    assert (await draw_all(ledger, len(Kind)))[: len(order)] == order


async def test_a_change_of_the_order_holds_for_credits_that_are_there(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("free", 5, Kind.FREE), ledger.ask.grant("top-up", 5, Kind.TOP_UP)
    )
    first = await ledger.run(ledger.ask.authorize("first", 1))
    ledger.ask.rules = Rules(ranks="9234560")
    second = await ledger.run(ledger.ask.authorize("second", 1))
    assert first.hold is not None
    assert second.hold is not None
    assert [part.bucket_id for part in first.hold.slices] == ["free"]
    assert [part.bucket_id for part in second.hold.slices] == ["top-up"]


async def test_within_a_kind_the_earlier_end_goes_first_and_never_is_last(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("never", 1),
        ledger.ask.grant("late", 1, ends_ms=START_MS + 2),
        ledger.ask.grant("soon", 1, ends_ms=START_MS + 1),
    )
    assert await draw_all(ledger, 3) == ["soon", "late", "never"]


async def test_a_rank_goes_before_an_end(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("soon", 1, Kind.TOP_UP, ends_ms=START_MS + 1),
        ledger.ask.grant("never", 1, Kind.FREE),
    )
    assert await draw_all(ledger, 2) == ["never", "soon"]


async def test_of_two_kinds_of_one_rank_the_earlier_end_goes_first(ledger: Bench) -> None:
    ledger.ask.rules = Rules(ranks="1111111")
    await ledger.run_all(
        ledger.ask.grant("never", 1, Kind.FREE),
        ledger.ask.grant("soon", 1, Kind.REFERRAL, ends_ms=START_MS + 1),
    )
    assert await draw_all(ledger, 2) == ["soon", "never"]


async def test_of_two_with_one_end_the_older_goes_first(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("z-older", 1))
    ledger.advance(1)
    await ledger.run(ledger.ask.grant("a-newer", 1))
    assert await draw_all(ledger, 2) == ["z-older", "a-newer"]


async def test_of_two_of_one_age_the_name_decides_by_its_bytes(ledger: Bench) -> None:
    names = ["b", "a", "B", "a.", "a-", "a:", "a_", "10", "9", "A"]
    await ledger.run_all(*(ledger.ask.grant(name, 1) for name in names))
    assert await draw_all(ledger, len(names)) == sorted(names, key=str.encode)


@pytest.mark.parametrize(
    ("only", "job", "pays"),
    [
        ({"actions": ("image.generate",)}, IMAGE, True),
        ({"actions": ("video.generate", "image.generate")}, IMAGE, True),
        ({"actions": ("image",)}, IMAGE, False),
        ({"actions": ("image.generate.fast",)}, IMAGE, False),
        ({"actions": ("video.generate",)}, IMAGE, False),
        ({"models": ("tall",)}, VIDEO, True),
        ({"models": ("wide", "tall")}, VIDEO, True),
        ({"models": ("wide",)}, VIDEO, False),
        ({"models": ("tall",)}, IMAGE, False),  # A job without a model is not of this model.
        ({"actions": ("video.generate",), "models": ("tall",)}, VIDEO, True),
        ({"actions": ("image.generate",), "models": ("tall",)}, VIDEO, False),
        ({"actions": ("video.generate",), "models": ("wide",)}, VIDEO, False),
    ],
)
async def test_a_restricted_bucket_pays_what_it_names(
    ledger: Bench, only: dict[str, Any], job: Job, *, pays: bool
) -> None:
    await ledger.run(ledger.ask.grant("limited", 5, **only))
    reply = await ledger.run(ledger.ask.authorize("job", 5, job))
    assert reply.decision is (Decision.APPROVED if pays else Decision.INSUFFICIENT_CREDITS)
    assert reply.missing == (0 if pays else 5)


async def test_a_restricted_bucket_is_skipped_by_other_jobs(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("videos", 5, Kind.FREE, actions=("video.generate",)),
        ledger.ask.grant("any", 5, Kind.TOP_UP),
    )
    short = await ledger.run(ledger.ask.authorize("big", 6))
    assert (short.decision, short.missing) == (Decision.INSUFFICIENT_CREDITS, 1)
    assert await draw_all(ledger, 5) == ["any"]


async def test_a_balance_counts_what_may_pay_one_action(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("videos", 1, actions=("video.generate",)),
        ledger.ask.grant("tall", 2, models=("tall",)),
        ledger.ask.grant("tall-videos", 4, actions=("video.generate",), models=("tall",)),
        ledger.ask.grant("any", 8),
    )
    payable = {
        (action, model): (await ledger.run(ledger.ask.balance(action, model))).payable
        for action in ("", "video.generate", "image.generate")
        for model in ("", "tall", "wide")
    }
    assert payable == {
        ("", ""): 15,
        ("", "tall"): 15,
        ("", "wide"): 9,
        ("video.generate", ""): 15,
        ("video.generate", "tall"): 15,
        ("video.generate", "wide"): 9,
        ("image.generate", ""): 10,
        ("image.generate", "tall"): 10,
        ("image.generate", "wide"): 8,
    }


async def test_a_balance_lists_buckets_in_the_order_they_are_drawn(ledger: Bench) -> None:
    """R40, R68: the balance is shown with its parts. Empty ones come last."""
    await ledger.run_all(
        ledger.ask.grant("top-up", 5, Kind.TOP_UP),
        ledger.ask.grant("used-up", 5, Kind.FREE),
        ledger.ask.authorize("job", 5),
        ledger.ask.grant("month", 5, Kind.SUBSCRIPTION),
    )
    balance = await ledger.run(ledger.ask.balance())
    assert [bucket.bucket_id for bucket in balance.buckets] == ["month", "top-up", "used-up"]
    assert balance.open_holds == 1
