"""What fills an account and what empties it besides jobs: grants, ends, voids, debts."""

import pytest

from creditgate_server.core.commands import Kind, Overage
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import AMOUNT_MAX
from creditgate_server.core.results import Decision, Verb
from tests.ledger.bench import DAY_MS, START_MS, Ask, Bench, granted, moved, refused, terms


async def test_the_first_put_creates_the_account_and_the_second_finds_it(ledger: Bench) -> None:
    other = Ask(f"{ledger.ask.account_id}-2")
    first = await ledger.run(other.put(zone="Europe/Berlin"))
    assert (first.created, first.account.zone) == (True, "Europe/Berlin")
    assert (first.account.created_ms, first.account.totals.seq) == (START_MS, 0)
    ledger.advance(5)
    second = await ledger.run(other.put())
    assert (second.created, second.account.zone) == (False, "Europe/Berlin")
    assert second.account.created_ms == START_MS
    third = await ledger.run(other.put(zone="Asia/Tokyo"))
    assert (third.account.zone, third.account.totals.seq) == ("Asia/Tokyo", 0)
    assert await ledger.run(other.account()) == third.account


async def test_an_account_lives_in_utc_unless_told_otherwise(ledger: Bench) -> None:
    account = await ledger.run(ledger.ask.account())
    assert (account.zone, account.totals.seq, account.totals.available) == ("UTC", 0, 0)


@pytest.mark.parametrize("name", ["account", "balance", "holds", "entries"])
async def test_reads_of_an_account_that_does_not_exist_find_nothing(
    ledger: Bench, name: str
) -> None:
    with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody"):
        await ledger.run(getattr(Ask("nobody"), name)())


async def test_writes_to_an_account_that_does_not_exist_find_nothing(ledger: Bench) -> None:
    nobody = Ask("nobody")
    for command in (nobody.grant("pack", 1), nobody.void("pack"), nobody.charge("job", 1)):
        with refused(Reason.ACCOUNT_NOT_FOUND, account_id="nobody"):
            await ledger.run_all(command)


async def test_a_grant_is_there_at_once(ledger: Bench) -> None:
    """R26, R84."""
    grant = ledger.ask.grant(
        "pack", 800, Kind.TOP_UP, ends_ms=START_MS + DAY_MS, actions=("a", "b"), models=("m",)
    )
    reply = await ledger.run(grant)
    assert not reply.replayed
    bucket = granted(reply)
    assert (bucket.bucket_id, bucket.kind, bucket.period) == ("pack", Kind.TOP_UP, 0)
    assert (bucket.granted, bucket.available, bucket.ended) == (800, 800, False)
    assert (bucket.ends_ms, bucket.granted_ms) == (START_MS + DAY_MS, START_MS)
    assert (bucket.actions, bucket.models) == (("a", "b"), ("m",))
    [entry] = await ledger.entries()
    assert (entry.seq, entry.verb, entry.hold_id) == (1, Verb.GRANT, "")
    assert moved(entry) == ["pack: 800 granted > available"]


async def test_a_payment_told_twice_grants_once(ledger: Bench) -> None:
    grant = ledger.ask.grant("pack", 800)
    await ledger.run_all(grant, ledger.ask.charge("job", 300))
    again = await ledger.run(grant)
    assert again.replayed
    assert (granted(again).granted, granted(again).available) == (800, 500)
    assert again.totals.available == 500


async def test_a_payment_told_again_after_its_credits_ended_grants_nothing(ledger: Bench) -> None:
    grant = ledger.ask.grant("daily", 5, ends_ms=START_MS + 10)
    await ledger.run(grant)
    ledger.advance(10)
    again = await ledger.run(grant)
    assert (again.replayed, granted(again).ended, granted(again).expired) == (True, True, 5)


@pytest.mark.parametrize(("lasts_ms", "fits"), [(1, True), (0, False), (-1, False)])
async def test_a_grant_must_end_in_the_future(ledger: Bench, lasts_ms: int, *, fits: bool) -> None:
    grant = ledger.ask.grant("daily", 5, ends_ms=START_MS + lasts_ms)
    if fits:
        assert granted(await ledger.run(grant)).available == 5
        return
    with refused(Reason.INVALID_FIELD, field="ends_at"):
        await ledger.run(grant)
    assert await ledger.rows() == {}


async def test_credits_can_be_spent_until_just_before_their_end(ledger: Bench) -> None:
    """R16, R33, R78: no rollover."""
    await ledger.run(ledger.ask.grant("daily", 5, Kind.FREE, ends_ms=START_MS + DAY_MS))
    ledger.advance(DAY_MS - 1)
    reply = await ledger.run(ledger.ask.authorize("early", 2))
    assert reply.decision is Decision.APPROVED
    ledger.advance(1)
    reply = await ledger.run(ledger.ask.authorize("late", 1))
    assert (reply.decision, reply.missing) == (Decision.INSUFFICIENT_CREDITS, 1)
    assert await ledger.rows() == {"daily": {"granted": 5, "held": 2, "expired": 3}}


async def test_a_top_up_never_expires(ledger: Bench) -> None:
    """R17, R18, R36: it stays until used, even when the subscription ends."""
    await ledger.run_all(
        ledger.ask.grant("month", 10, Kind.SUBSCRIPTION, ends_ms=START_MS + 30 * DAY_MS),
        ledger.ask.grant("top-up", 200),
    )
    ledger.advance(30 * DAY_MS)
    assert (await ledger.run(ledger.ask.balance())).totals.available == 200
    ledger.advance(3650 * DAY_MS)
    reply = await ledger.run(ledger.ask.charge("job", 200))
    assert reply.decision is Decision.APPROVED


async def test_add_on_credits_may_end_with_the_base_credits(ledger: Bench) -> None:
    """R79: the life of a bought bucket is data."""
    end_ms = START_MS + 30 * DAY_MS
    await ledger.run_all(
        ledger.ask.grant("base", 60, Kind.SUBSCRIPTION, ends_ms=end_ms),
        ledger.ask.grant("unit", 60, Kind.ADD_ON, ends_ms=end_ms),
    )
    ledger.now_ms = end_ms
    assert (await ledger.run(ledger.ask.balance())).totals.available == 0


async def test_buckets_end_in_the_order_of_their_ends_then_of_their_names(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("late", 1, ends_ms=START_MS + 9),
        ledger.ask.grant("b", 2, ends_ms=START_MS + 5),
        ledger.ask.grant("a", 3, ends_ms=START_MS + 5),
        ledger.ask.grant("never", 4),
    )
    ledger.advance(9)
    reply = await ledger.run(ledger.ask.balance())
    assert (reply.totals.seq, reply.totals.available) == (7, 4)
    entries = (await ledger.entries())[-3:]
    assert [moved(entry) for entry in entries] == [
        ["a: 3 available > expired"],
        ["b: 2 available > expired"],
        ["late: 1 available > expired"],
    ]
    assert {(entry.verb, entry.at_ms) for entry in entries} == {(Verb.END_BUCKET, START_MS + 9)}


async def test_the_end_of_an_empty_bucket_is_recorded_too(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("daily", 1, ends_ms=START_MS + 5), ledger.ask.charge("job", 1)
    )
    ledger.advance(5)
    [bucket] = (await ledger.run(ledger.ask.balance())).buckets
    assert (bucket.ended, bucket.spent) == (True, 1)
    entry = (await ledger.entries())[-1]
    assert (entry.verb, entry.moves) == (Verb.END_BUCKET, ())


async def test_what_is_due_is_kept_when_the_request_is_refused(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("daily", 5, ends_ms=START_MS + 5))
    ledger.advance(5)
    with refused(Reason.HOLD_NOT_FOUND, hold_id="job"):
        await ledger.run(ledger.ask.settle("job"))
    assert [entry.verb for entry in await ledger.entries()] == [Verb.GRANT, Verb.END_BUCKET]


async def test_a_clock_that_steps_back_does_not_bring_ended_credits_back(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("daily", 5, ends_ms=START_MS + 5))
    ledger.advance(5)
    await ledger.run(ledger.ask.balance())
    ledger.advance(-5)
    reply = await ledger.run(ledger.ask.authorize("job", 5))
    assert reply.decision is Decision.INSUFFICIENT_CREDITS
    assert reply.totals.as_of_ms == START_MS + 5


# Voids.


async def test_a_bucket_that_does_not_exist_cannot_be_voided(ledger: Bench) -> None:
    with refused(Reason.BUCKET_NOT_FOUND, bucket_id="pack"):
        await ledger.run(ledger.ask.void("pack"))


async def test_a_void_takes_what_is_available_and_leaves_what_is_held(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.authorize("job", 4))
    reply = await ledger.run(ledger.ask.void("pack"))
    assert (reply.bucket.available, reply.bucket.held, reply.bucket.voided) == (0, 4, 6)
    assert reply.bucket.ended
    assert (reply.totals.available, reply.totals.held) == (0, 4)
    assert moved((await ledger.entries())[-1]) == ["pack: 6 available > voided"]
    await ledger.run(ledger.ask.settle("job", 3))
    assert await ledger.rows() == {"pack": {"granted": 10, "spent": 3, "voided": 7}}


async def test_a_void_of_a_bucket_sent_twice_changes_nothing_more(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 10), ledger.ask.void("pack"))
    before = await ledger.snapshot()
    again = await ledger.run(ledger.ask.void("pack"))
    assert again.bucket.voided == 10
    assert await ledger.snapshot() == before


async def test_an_empty_bucket_can_be_voided_and_that_is_recorded(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 3), ledger.ask.charge("job", 3))
    await ledger.run(ledger.ask.void("pack"))
    entry = (await ledger.entries())[-1]
    assert (entry.verb, entry.moves) == (Verb.VOID_BUCKET, ())
    await ledger.run(ledger.ask.refund("job"))
    assert await ledger.rows() == {"pack": {"granted": 3, "voided": 3}}


async def test_an_ended_bucket_is_not_voided_after_the_fact(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("daily", 3, ends_ms=START_MS + 5))
    ledger.advance(5)
    reply = await ledger.run(ledger.ask.void("daily"))
    assert (reply.bucket.expired, reply.bucket.voided) == (3, 0)


async def test_a_voided_bucket_does_not_end_a_second_time(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("daily", 3, ends_ms=START_MS + 5), ledger.ask.void("daily")
    )
    ledger.advance(5)
    assert (await ledger.run(ledger.ask.balance())).totals.seq == 2


# Debts.


async def owing(ledger: Bench, debt: int) -> None:
    """An account without credits that owes `debt`."""
    job = terms(1, overage=Overage.OVERDRAFT, overdraft_limit=debt)
    await ledger.run_all(
        ledger.ask.grant("spent", 1),
        ledger.ask.authorize("debtor", job),
        ledger.ask.settle("debtor", 1 + debt),
    )


@pytest.mark.parametrize(("amount", "available", "debt"), [(4, 0, 1), (5, 0, 0), (6, 1, 0)])
async def test_credits_that_arrive_pay_a_debt_first(
    ledger: Bench, amount: int, available: int, debt: int
) -> None:
    await owing(ledger, 5)
    reply = await ledger.run(ledger.ask.grant("pack", amount))
    paid = 5 - debt
    assert (granted(reply).available, granted(reply).spent) == (available, paid)
    assert (reply.totals.available, reply.totals.debt) == (available, debt)
    grant, pay = (await ledger.entries())[-2:]
    assert (grant.verb, grant.available, grant.debt) == (Verb.GRANT, amount, 5)
    assert (pay.verb, pay.debt_change, pay.debt) == (Verb.PAY_DEBT, -paid, debt)
    assert moved(pay) == [f"pack: {paid} available > spent"]


async def test_a_grant_told_twice_pays_a_debt_once(ledger: Bench) -> None:
    await owing(ledger, 5)
    grant = ledger.ask.grant("pack", 3)
    await ledger.run(grant)
    again = await ledger.run(grant)
    assert (again.replayed, again.totals.debt) == (True, 2)


async def test_credits_that_come_back_pay_no_debt(ledger: Bench) -> None:
    await ledger.run_all(ledger.ask.grant("pack", 4), ledger.ask.authorize("job", 4))
    await owing_beside(ledger)
    reply = await ledger.run(ledger.ask.refund("job"))
    assert (reply.totals.available, reply.totals.debt) == (4, 2)


async def test_a_compensation_pays_no_debt(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("daily", 4, ends_ms=START_MS + 5), ledger.ask.authorize("job", 4)
    )
    await owing_beside(ledger)
    ledger.advance(5)
    reply = await ledger.run(ledger.ask.refund("job"))
    assert (reply.totals.available, reply.totals.debt) == (4, 2)


async def owing_beside(ledger: Bench) -> None:
    job = terms(0, overage=Overage.OVERDRAFT, overdraft_limit=2)
    await ledger.run_all(ledger.ask.authorize("debtor", job), ledger.ask.settle("debtor", 2))


# The largest amounts.


async def test_a_grant_may_fill_an_account_to_the_largest_amount_and_not_beyond(
    ledger: Bench,
) -> None:
    await ledger.run_all(
        ledger.ask.grant("most", AMOUNT_MAX - 3), ledger.ask.authorize("job", AMOUNT_MAX - 4)
    )
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.grant("more", 4))
    reply = await ledger.run(ledger.ask.grant("more", 3))
    assert (reply.totals.available, reply.totals.held) == (4, AMOUNT_MAX - 4)
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.grant("one-more", 1))


async def test_what_was_spent_leaves_room_again(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("most", AMOUNT_MAX),
        ledger.ask.charge("job", AMOUNT_MAX),
        ledger.ask.grant("again", AMOUNT_MAX),
    )
    rows = await ledger.rows()
    assert rows["again"] == {"granted": AMOUNT_MAX, "available": AMOUNT_MAX}


async def test_a_debt_may_be_the_largest_amount(ledger: Bench) -> None:
    job = terms(0, overage=Overage.OVERDRAFT, overdraft_limit=AMOUNT_MAX)
    await ledger.run(ledger.ask.authorize("job", job))
    reply = await ledger.run(ledger.ask.settle("job", AMOUNT_MAX))
    assert (reply.charged, reply.totals.debt) == (AMOUNT_MAX, AMOUNT_MAX)


async def test_a_hold_is_never_charged_more_than_the_largest_amount(ledger: Bench) -> None:
    job = terms(1, overage=Overage.OVERDRAFT, overdraft_limit=AMOUNT_MAX)
    await ledger.run_all(
        ledger.ask.grant("pack", 1),
        ledger.ask.authorize("job", job),
        ledger.ask.settle("job", 1, operation_id="a", partial=True),
    )
    with refused(Reason.AMOUNT_OVERFLOW, account_id=ledger.ask.account_id):
        await ledger.run(ledger.ask.settle("job", AMOUNT_MAX))
    reply = await ledger.run(ledger.ask.settle("job", AMOUNT_MAX - 1))
    assert reply.hold.charged == AMOUNT_MAX


# Lists.


async def test_every_change_has_the_next_number(ledger: Bench) -> None:
    await ledger.run_all(
        ledger.ask.grant("pack", 10),
        ledger.ask.authorize("job", 4),
        ledger.ask.extend("job", amount=5),
        ledger.ask.settle("job", 2, operation_id="a", partial=True),
        ledger.ask.settle("job", 1),
        ledger.ask.refund("job"),
    )
    entries = await ledger.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [(entry.available, entry.held) for entry in entries] == [
        (10, 0),
        (6, 4),
        (5, 5),
        (5, 3),
        (7, 0),
        (10, 0),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_a_ledger_is_read_page_by_page_from_the_latest_entry(
    ledger: Bench, limit: int
) -> None:
    await ledger.run_all(*(ledger.ask.grant(f"pack-{number}", 1) for number in range(7)))
    seqs: list[int] = []
    cursor = ""
    while True:
        page = await ledger.run(ledger.ask.entries(limit, cursor))
        assert len(page.entries) <= limit
        seqs += [entry.seq for entry in page.entries]
        cursor = page.cursor
        if not cursor:
            break
    assert seqs == [7, 6, 5, 4, 3, 2, 1]


async def test_open_holds_are_listed_page_by_page(ledger: Bench) -> None:
    await ledger.run(ledger.ask.grant("pack", 300))
    ids = {f"job-{number}" for number in range(150)}
    await ledger.run_all(*(ledger.ask.authorize(hold_id, 1) for hold_id in sorted(ids)))
    await ledger.run_all(ledger.ask.settle("job-0"), ledger.ask.refund("job-1"))
    found: set[str] = set()
    cursor = ""
    while True:
        page = await ledger.run(ledger.ask.holds(10, cursor))
        found |= {hold.hold_id for hold in page.holds}
        cursor = page.cursor
        if not cursor:
            break
    assert found == ids - {"job-0", "job-1"}
