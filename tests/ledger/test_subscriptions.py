"""Plans and periods on a ledger: what each boundary does to buckets, holds and limits, by name."""

import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.calendar import Every
from creditgate_server.core.commands import Kind, ReturnPolicy
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.plans import OnLapse, Plans, Upgrade
from creditgate_server.core.prices import AMOUNT_MAX
from creditgate_server.core.results import Decision, Effect, HoldState, Verb
from creditgate_server.core.schedule import Cancel, ChangePlan, Event, SetAddOns, Subscribe, When
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import DAY_MS, RULES, START_MS, Ask, Bench, Clock, refused, terms
from tests.ledger.histories import twisted
from tests.ledger.subscribers import base, daily, plan, units
from tests.schedule.times import ms

SHOP = Plans(
    default="free",
    plans=(
        plan("free", daily(5)),
        plan("basic", base(20)),
        plan("pro", base(50)),
        plan("yearly", base(90, every=Every.YEAR), billing=Every.YEAR),
    ),
    add_ons=(units({"basic": 6}),),
    top_up_on_lapse=OnLapse.FREEZE,
)
MONTH_MS = ms("2027-02-15 08:00") - START_MS


def lasting(price: int, *, quantity: int = 1) -> c.Terms:
    """Terms of a job that may run for a year."""
    return terms(price, quantity=quantity, ttl_ms=400 * DAY_MS, life_ms_max=400 * DAY_MS)


def open_shop(ledger: Bench, plans: Plans = SHOP, **rules: Any) -> None:
    """From now on the catalog has these plans and rules."""
    ledger.ask.rules = dataclasses.replace(RULES, plans=plans, **rules)


async def subscribe(ledger: Bench, plan: str = "basic", **more: Any) -> None:
    """Begin a subscription now."""
    open_shop(ledger)
    reply = await ledger.run(ledger.ask.event("first", Subscribe(plan=plan, **more)))
    assert reply.effect is Effect.APPLIED


async def hold(ledger: Bench, hold_id: str, amount: int, **more: Any) -> r.Authorized:
    """Set credits aside for a year."""
    return await ledger.run(ledger.ask.authorize(hold_id, lasting(amount), **more))


async def shown(ledger: Bench) -> dict[str, tuple[int, int]]:
    """What is available and held in each bucket that has not ended, by the name of its row."""
    balance = await ledger.run(ledger.ask.balance())
    return {
        f"{bucket.bucket_id}#{bucket.period}" if bucket.recurring else bucket.bucket_id: (
            bucket.available,
            bucket.held,
        )
        for bucket in balance.buckets
        if not bucket.ended
    }


# Periods.


@pytest.mark.parametrize(
    ("policy", "available"),
    [
        (ReturnPolicy.COMPENSATE, {"base#1": (20, 0), "compensation/5": (1, 0)}),
        (ReturnPolicy.FORFEIT, {"base#1": (20, 0)}),
        (ReturnPolicy.RESTORE_CAPPED, {"base#1": (20, 0)}),
    ],
)
async def test_returning_a_previous_periods_credits_does_not_make_20_into_21(
    ledger: Bench, policy: ReturnPolicy, available: dict[str, tuple[int, int]]
) -> None:
    await subscribe(ledger)
    await hold(ledger, "job", 1)
    ledger.advance(MONTH_MS)
    open_shop(ledger, on_failed=policy)
    await ledger.run(ledger.ask.refund("job"))
    assert await shown(ledger) == available


async def test_credits_are_restored_as_far_as_the_new_period_was_spent(ledger: Bench) -> None:
    await subscribe(ledger)
    for number in range(3):
        await hold(ledger, f"old-{number}", 4)
    ledger.advance(MONTH_MS)
    open_shop(ledger, on_failed=ReturnPolicy.RESTORE_CAPPED)
    await ledger.run(ledger.ask.charge("new", 6))
    left = []
    for number in range(3):
        await ledger.run(ledger.ask.refund(f"old-{number}"))
        left.append((await shown(ledger))["base#1"])
    assert left == [(18, 0), (20, 0), (20, 0)]


async def test_a_period_that_begins_with_nothing_is_there(ledger: Bench) -> None:
    await subscribe(ledger, allowances=(("base", 0),))
    assert await shown(ledger) == {"base#0": (0, 0)}


@pytest.mark.parametrize(
    ("anchor", "boundaries"),
    [
        ("2027-01-31 12:00", ["02-28", "03-31", "04-30", "05-31", "06-30"]),
        ("2027-05-31 12:00", ["06-30", "07-31", "08-31", "09-30"]),
    ],
)
async def test_anchors_on_the_31st_reset_on_the_last_of_each_month(
    ledger: Bench, anchor: str, boundaries: list[str]
) -> None:
    ledger.now_ms = ms(anchor)
    await subscribe(ledger)
    for number, day in enumerate(boundaries):
        await ledger.run(ledger.ask.charge(f"all-{number}", 20))
        ledger.now_ms = ms(f"2027-{day} 12:00") - 1
        assert (await hold(ledger, f"early-{number}", 1)).decision is not Decision.APPROVED
        ledger.advance(1)
        reply = await hold(ledger, f"on-time-{number}", 20)
        assert reply.decision is Decision.APPROVED
        await ledger.run(ledger.ask.refund(f"on-time-{number}"))


@pytest.mark.parametrize(
    ("before", "boundaries"),
    [
        ("2027-03-27 12:00", ["2027-03-27 23:00", "2027-03-28 22:00"]),
        ("2027-10-30 12:00", ["2027-10-30 22:00", "2027-10-31 23:00"]),
    ],
    ids=["spring", "autumn"],
)
async def test_a_daily_reset_falls_on_midnight_on_both_days_of_a_clock_change(
    ledger: Bench, before: str, boundaries: list[str]
) -> None:
    ledger.now_ms = ms(before)
    open_shop(ledger)
    await ledger.run(ledger.ask.put(zone="Europe/Berlin"))
    for number, boundary in enumerate(boundaries):
        await ledger.run(ledger.ask.charge(f"all-{number}", 5))
        ledger.now_ms = ms(boundary) - 1
        assert (await hold(ledger, f"early-{number}", 1)).decision is not Decision.APPROVED
        ledger.advance(1)
        assert [*await shown(ledger)] == [f"daily#{number + 1}"]


async def test_an_account_that_slept_for_months_turns_once(ledger: Bench) -> None:
    await subscribe(ledger)
    before = len(await ledger.entries())
    ledger.advance(7 * MONTH_MS)
    await hold(ledger, "job", 1)
    turned = (await ledger.entries())[before:]
    verbs = [Verb.END_BUCKET, Verb.BEGIN_PERIOD, Verb.AUTHORIZE]
    assert [entry.verb for entry in turned] == verbs


async def test_an_account_older_than_the_catalogs_plans_begins_the_default_one(
    ledger: Bench,
) -> None:
    await ledger.run(ledger.ask.grant("pack", 10))
    open_shop(ledger)
    assert (await hold(ledger, "job", 12)).decision is Decision.APPROVED
    assert await shown(ledger) == {"daily#0": (0, 5), "pack": (3, 7)}


async def test_commands_sent_together_are_run_in_order_whatever_is_due(ledger: Bench) -> None:
    await subscribe(ledger)
    ledger.advance(MONTH_MS)
    ask = dataclasses.replace(ledger.ask, account_id=f"{ledger.ask.account_id}-2")
    commands: list[c.Command[Any]] = [
        ledger.ask.authorize("job", 20),
        ledger.ask.hold("job"),
        ledger.ask.settle("job", 5),
        ledger.ask.event("second", ChangePlan(plan="pro")),
        ledger.ask.charge("other", 40),
        ask.put(),
        ask.grant("pack", 10),
    ]
    replies: list[Any] = await ledger.ledger.run_all(commands)
    if ledger.beside is not None:
        assert replies == await ledger.beside.run_all(commands)
    assert replies[1].held == 20
    assert [replies[4].decision, replies[6].decision] == [Decision.APPROVED] * 2


# What an open hold meets.


async def reset(ledger: Bench) -> None:
    ledger.advance(MONTH_MS)


async def downgrade(ledger: Bench) -> None:
    await ledger.run(ledger.ask.event("down", ChangePlan(plan="basic", when=When.NOW)))


async def cancellation(ledger: Bench) -> None:
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))


async def voided(ledger: Bench) -> None:
    await ledger.run(ledger.ask.void("base#0"))


async def other_catalog(ledger: Bench) -> None:
    open_shop(ledger, Plans(default="free", plans=(plan("free"),)), ranks="9023456")
    ledger.advance(MONTH_MS)


async def frozen(ledger: Bench) -> None:
    await ledger.run(ledger.ask.freeze())


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (reset, {"base#1": (50, 0)}),
        (downgrade, {"base#0": (20, 0)}),
        (cancellation, {"daily#1": (5, 0)}),
        (voided, {}),
        (other_catalog, {}),
        (frozen, {"base#0": (20, 0)}),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
async def test_an_open_hold_settles_whatever_happens_to_the_plan(
    ledger: Bench,
    change: Callable[[Bench], Awaitable[None]],
    left: dict[str, tuple[int, int]],
    *,
    partial: bool,
) -> None:
    await subscribe(ledger, "pro")
    await hold(ledger, "job", 30)
    await change(ledger)
    if partial:
        await ledger.run(ledger.ask.settle("job", 10, operation_id="a", partial=True))
    reply = await ledger.run(ledger.ask.settle("job", 20 if partial else 30))
    assert (reply.hold.state, reply.hold.charged) == (HoldState.SETTLED, 30)
    balance = await ledger.run(ledger.ask.balance())
    [row] = [bucket for bucket in balance.buckets if bucket.bucket_id == "base" and bucket.spent]
    assert (row.period, row.spent, row.held) == (0, 30, 0)
    assert await shown(ledger) == left


async def test_an_open_hold_settles_at_its_own_price_after_a_change_of_prices(
    ledger: Bench,
) -> None:
    await subscribe(ledger)
    job = lasting(3, quantity=4)
    await ledger.run(ledger.ask.authorize("job", job, c.Job(action="image.generate", quantity=4)))
    again = await ledger.run(
        ledger.ask.authorize("job", terms(9), c.Job(action="image.generate", quantity=4))
    )
    assert (again.replayed, again.amount) == (True, 12)
    assert (await ledger.run(ledger.ask.settle("job", quantity=3))).charged == 9


async def test_a_downgrade_now_lowers_what_is_available_and_not_what_is_held(
    ledger: Bench,
) -> None:
    await subscribe(ledger, "pro")
    await hold(ledger, "job", 5)
    await downgrade(ledger)
    assert await shown(ledger) == {"base#0": (20, 5)}


async def test_an_upgrade_while_a_hold_is_open_adds_the_difference(ledger: Bench) -> None:
    await subscribe(ledger)
    await hold(ledger, "job", 15)
    await ledger.run(ledger.ask.event("up", ChangePlan(plan="pro")))
    assert await shown(ledger) == {"base#0": (35, 15)}
    await ledger.run(ledger.ask.refund("job"))
    assert await shown(ledger) == {"base#0": (50, 0)}


async def test_an_upgrade_that_restarts_leaves_an_open_hold_in_the_old_period(
    ledger: Bench,
) -> None:
    await subscribe(ledger)
    await hold(ledger, "job", 15)
    open_shop(ledger, dataclasses.replace(SHOP, upgrade=Upgrade.RESTART))
    await ledger.run(ledger.ask.event("up", ChangePlan(plan="pro")))
    assert await shown(ledger) == {"base#1": (50, 0)}
    await ledger.run(ledger.ask.settle("job"))
    assert await shown(ledger) == {"base#1": (50, 0)}


# Lapse, freezing, thawing.


async def test_what_is_frozen_is_shown_and_not_spent_until_the_next_subscription(
    ledger: Bench,
) -> None:
    await subscribe(ledger)
    await ledger.run(ledger.ask.grant("pack", 10))
    await hold(ledger, "job", 22)
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))
    balance = await ledger.run(ledger.ask.balance())
    [pack] = [bucket for bucket in balance.buckets if bucket.bucket_id == "pack"]
    assert (pack.frozen, pack.available, pack.held, pack.ended) == (True, 8, 2, False)
    assert (balance.totals.available, balance.payable) == (5, 5)
    assert (await hold(ledger, "more", 6)).missing == 1
    await ledger.run(ledger.ask.refund("job", cancelled=True))
    assert (await ledger.run(ledger.ask.balance())).totals.available == 5
    await ledger.run(ledger.ask.event("again", Subscribe(plan="basic")))
    assert await shown(ledger) == {"base#1": (20, 0), "pack": (10, 0)}
    assert (await ledger.run(ledger.ask.balance())).totals.available == 30


async def test_a_frozen_bucket_ends_by_its_date(ledger: Bench) -> None:
    await subscribe(ledger)
    await ledger.run(ledger.ask.grant("pack", 10, ends_ms=ledger.now_ms + 10))
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))
    ledger.advance(10)
    await ledger.run(ledger.ask.event("again", Subscribe(plan="basic")))
    assert await shown(ledger) == {"base#1": (20, 0)}
    assert (await ledger.run(ledger.ask.balance())).totals.available == 20


async def test_a_frozen_bucket_can_be_voided(ledger: Bench) -> None:
    await subscribe(ledger)
    await ledger.run(ledger.ask.grant("pack", 10))
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))
    reply = await ledger.run(ledger.ask.void("pack"))
    assert (reply.bucket.voided, reply.bucket.frozen, reply.totals.available) == (10, False, 5)


async def test_what_thaws_never_passes_the_largest_amount(ledger: Bench) -> None:
    await subscribe(ledger)
    await ledger.run(ledger.ask.grant("pack", AMOUNT_MAX - 20))
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))
    await ledger.run(ledger.ask.grant("gift", AMOUNT_MAX - 40, Kind.PROMOTIONAL))
    reply = await ledger.run(ledger.ask.event("again", Subscribe(plan="basic")))
    assert reply.effect is Effect.APPLIED
    balance = await ledger.run(ledger.ask.balance())
    assert [bucket.bucket_id for bucket in balance.buckets if bucket.frozen] == ["pack"]
    assert balance.totals.available == AMOUNT_MAX - 20


async def test_a_kept_bucket_outlives_its_period_however_late_the_turn_comes(
    ledger: Bench,
) -> None:
    keeping = (plan("free"), plan("basic", base(20, on_lapse=OnLapse.KEEP)))
    open_shop(ledger, Plans(default="free", plans=keeping))
    paid = Subscribe(plan="basic", paid_through_ms=START_MS + DAY_MS)
    await ledger.run(ledger.ask.event("first", paid))
    ledger.advance(3 * MONTH_MS)
    assert (await hold(ledger, "job", 20)).decision is Decision.APPROVED


# Events by their references.

EVENTS: list[Event] = [
    Subscribe(plan="pro"),
    ChangePlan(plan="pro"),
    Cancel(when=When.NOW),
    SetAddOns(name="units", units=2),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
async def test_an_event_told_again_changes_nothing_and_another_of_its_name_is_refused(
    ledger: Bench, event: Event
) -> None:
    await subscribe(ledger)
    command = ledger.ask.event("second", event)
    assert (await ledger.run(command)).effect is Effect.APPLIED
    before = await ledger.snapshot()
    assert (await ledger.run(command)).effect is Effect.REPLAYED
    with refused(Reason.ID_REUSED, id="second"):
        await ledger.run(twisted(command, "event"))
    assert await ledger.snapshot() == before


async def test_an_event_older_than_the_newest_is_superseded(ledger: Bench) -> None:
    await subscribe(ledger)
    before = await ledger.snapshot()
    event = Cancel(when=When.NOW, occurred_ms=START_MS - 1)
    assert (await ledger.run(ledger.ask.event("late", event))).effect is Effect.SUPERSEDED
    assert await ledger.snapshot() == before


async def test_an_event_that_is_refused_changes_nothing_and_its_reference_stays_free(
    ledger: Bench,
) -> None:
    open_shop(ledger)
    await ledger.run(ledger.ask.balance())  # The default plan begins.
    before = await ledger.snapshot()
    with refused(Reason.NOT_SUBSCRIBED, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.event("one", Cancel()))
    assert await ledger.snapshot() == before
    reply = await ledger.run(ledger.ask.event("one", Subscribe(plan="basic")))
    assert reply.effect is Effect.APPLIED


# Limits beside credits, and the order of denials.


async def test_a_members_limit_counts_what_is_held_and_spent_in_the_cap_period(
    ledger: Bench,
) -> None:
    await subscribe(ledger, "pro")
    await ledger.run(ledger.ask.limit("ada", 10))
    await hold(ledger, "one", 6, member_id="ada")
    reply = await hold(ledger, "two", 5, member_id="ada")
    assert (reply.decision, reply.missing) == (Decision.MEMBER_LIMIT, 1)
    assert (await hold(ledger, "others", 5, member_id="bob")).decision is Decision.APPROVED
    await ledger.run(ledger.ask.settle("one", 4))
    assert (await ledger.run(ledger.ask.limit("ada", 10))).used == 4
    assert (await hold(ledger, "three", 6, member_id="ada")).decision is Decision.APPROVED
    ledger.advance(MONTH_MS)
    assert (await ledger.run(ledger.ask.limit("ada", 10))).used == 0


async def test_what_comes_back_lowers_the_members_count_only_in_its_own_period(
    ledger: Bench,
) -> None:
    await subscribe(ledger, "pro")
    await hold(ledger, "old", 9, member_id="ada")
    ledger.advance(MONTH_MS)
    await hold(ledger, "new", 8, member_id="ada")
    await ledger.run(ledger.ask.refund("old"))
    assert (await ledger.run(ledger.ask.limit("ada", 10))).used == 8
    await ledger.run(ledger.ask.refund("new"))
    assert (await ledger.run(ledger.ask.limit("ada", 10))).used == 0


async def test_a_raise_counts_in_the_period_in_which_it_is_drawn(ledger: Bench) -> None:
    await subscribe(ledger, "pro")
    await ledger.run(ledger.ask.limit("", 10))
    await hold(ledger, "job", 9, member_id="ada")
    ledger.advance(MONTH_MS)
    denied = await ledger.run(ledger.ask.extend("job", amount=20))
    assert (denied.decision, denied.missing) == (Decision.MEMBER_LIMIT, 1)
    assert (await ledger.run(ledger.ask.extend("job", amount=19))).decision is Decision.APPROVED
    assert (await ledger.run(ledger.ask.limit("ada", None))).used == 10
    await ledger.run(ledger.ask.settle("job", 12))
    assert (await ledger.run(ledger.ask.limit("ada", None))).used == 3


async def test_of_several_denials_the_first_of_the_ladder_is_told(ledger: Bench) -> None:
    await subscribe(ledger)
    await ledger.run(ledger.ask.limit("ada", 0))
    await ledger.run(ledger.ask.freeze())
    await ledger.run(ledger.ask.charge("free", 0))
    asked = dataclasses.replace(terms(99), gate=",pro/1,")
    ask = ledger.ask

    async def told(found: c.Terms | None, **more: Any) -> Decision:
        command = ask.authorize("job", found, member_id="ada", **more)
        return (await ledger.run(command)).decision

    assert await told(None, max_amount=1) is Decision.UNPRICED_ACTION
    assert await told(asked, max_amount=1) is Decision.PRICE_CHANGED
    assert await told(asked) is Decision.ACCOUNT_FROZEN
    await ledger.run(ask.freeze(frozen=False))
    assert await told(asked) is Decision.PLAN_REQUIRED
    await hold(ledger, "open", 1)
    gated = dataclasses.replace(asked, gate=",basic/1,")
    assert await told(gated) is Decision.MEMBER_LIMIT
    await ledger.run(ask.limit("ada", None))
    assert await told(gated) is Decision.CONCURRENCY_LIMIT
    await ledger.run(ask.settle("open"))
    assert await told(gated) is Decision.INSUFFICIENT_CREDITS
    denied = (await ledger.run(ask.account())).denied
    assert denied is not None
    assert (denied.decision, denied.missing) == (Decision.INSUFFICIENT_CREDITS, 80)


async def test_a_frozen_account_finishes_its_open_holds(ledger: Bench) -> None:
    await subscribe(ledger)
    await hold(ledger, "job", 5)
    await ledger.run(ledger.ask.freeze())
    assert (await hold(ledger, "job", 5)).replayed
    assert (await ledger.run(ledger.ask.extend("job", amount=6))).decision is Decision.APPROVED
    assert (await ledger.run(ledger.ask.settle("job"))).charged == 6


async def test_only_plans_that_may_buy_buy_and_a_purchase_made_is_made(ledger: Bench) -> None:
    open_shop(ledger)
    pack = ledger.ask.grant("pack", 10, Kind.TOP_UP, buyers=frozenset({"basic"}))
    denied = await ledger.run(pack)
    assert (denied.decision, denied.plan, denied.bucket) == (Decision.PLAN_REQUIRED, "free", None)
    await ledger.run(ledger.ask.event("first", Subscribe(plan="basic")))
    assert (await ledger.run(pack)).decision is Decision.APPROVED
    await ledger.run(ledger.ask.event("end", Cancel(when=When.NOW)))
    assert (await ledger.run(pack)).replayed


# Round trips.


@pytest.mark.parametrize("together", [False, True])
async def test_a_turn_of_periods_costs_one_more_round_trip_and_none_when_nothing_is_due(
    store_url: str, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    clock = Clock()
    store = await RedisLedger.open(store_url, clock=clock)
    ask = Ask(f"trips-{uuid.uuid4().hex[:12]}", dataclasses.replace(RULES, plans=SHOP))
    await store.run_all([ask.put(), ask.event("first", Subscribe(plan="basic"))])
    sent: list[str] = []
    evaluate = store.link.evaluate

    def counted(script: Any, *about: Any) -> Any:
        sent.append(script.name)
        return evaluate(script, *about)

    async def place(hold_id: str) -> list[str]:
        """Authorize, and tell which scripts that took."""
        sent.clear()
        command = ask.authorize(hold_id, 1)
        [reply] = await store.run_all([command]) if together else [await store.run(command)]
        assert not isinstance(reply, Fault)
        assert reply.decision is Decision.APPROVED
        return sent

    monkeypatch.setattr(store.link, "evaluate", counted)
    assert await place("one") == ["authorize"]
    clock.set(START_MS + 5 * MONTH_MS)
    assert await place("two") == ["authorize", "authorize"]
    assert await place("three") == ["authorize"]
    await store.close()
