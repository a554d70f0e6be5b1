"""A test counts only after it has caught its planted bug: here they are, planted and caught.

Each takes the real scripts, changes one thing, and shows that the histories, a race or a named case
notice. A text that is not there exactly once fails, so that no bug stays planted in thin air.
"""

import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.faults import Fault
from creditgate_server.core.ledger import Ledger
from creditgate_server.core.results import Decision
from creditgate_server.store.redis_ledger import RedisLedger
from creditgate_server.store.verbs import VERBS
from tests.ledger import (
    test_many_buckets,
    test_races,
    test_replays,
    test_settle,
    test_subscriptions,
)
from tests.ledger.bench import START_MS, Ask, Bench, Clock
from tests.ledger.histories import Difference, SetTime, Telling, content_fields, tell
from tests.ledger.planting import Change, Verbs, planted
from tests.ledger.subscribers import PLANS
from tests.model import Model

Case = Callable[[Bench], Awaitable[None]]

CAUGHT = (AssertionError, pytest.fail.Exception)

OPERATIONS = 6000

# Each is caught by histories: P1 to P8 and P14 of the promises, and the rules between them.
PLANTED = {
    # P1: conservation.
    "the rest of a settle is not returned": Change(
        "settle",
        "    returns(a).give_back(hold, 'h', returned, on_failed, tonumber(compensation_ms))\n",
        "",
    ),
    "a refund does not lower what was spent": Change(
        "parts/changes",
        "  if from ~= 'g' then\n",
        "  if from ~= 'g' and from ~= 's' then\n",
    ),
    "the end of a bucket takes what is held": Change(
        "parts/changes",
        "  move(a, row, 'a', figure, row.a)\n",
        "  move(a, row, 'a', figure, row.a)\n"
        "  if figure == 'e' then move(a, row, 'h', figure, row.h) end\n",
    ),
    # P2: never more than there is.
    "held credits may be held again": Change(
        "parts/place",
        "    picks, got = find_credits(a, price, wanted.action, wanted.model)\n",
        "    picks, got = find_credits(a, price, wanted.action, wanted.model)\n"
        "    got = got + a.held\n",
    ),
    "one credit too many is given": Change(
        "parts/place", "    if got < price then\n", "    if got < price - 1 then\n"
    ),
    "the last credit is kept": Change(
        "parts/place",
        "    if got < price then\n",
        "    if got < price or got == price and got > 0 then\n",
    ),
    "a limited bucket pays other models": Change(
        "parts/credits", "    and (row.models == '*' or", "    and (true or"
    ),
    "a limited bucket pays other actions": Change(
        "parts/credits", "return (row.actions == '*' or", "return (true or"
    ),
    # P3, P5, P6: ids.
    "a settle is not remembered": Change(
        "settle",
        "add_operation(hold, operation_id, 's', fingerprint, charged, shortfall, returned,"
        " late and '1' or '0')",
        "",
    ),
    "a refund is not remembered": Change(
        "refund", "add_operation(hold, operation_id, 'r', fingerprint, n, 0, 0, '0')", ""
    ),
    "a hold takes an id whatever its content": Change(
        "parts/place", "if earlier.fingerprint ~= wanted.fingerprint then", "if false then"
    ),
    "an operation takes an id whatever its content": Change(
        "settle",
        "if earlier ~= nil and earlier.fingerprint == fingerprint then",
        "if earlier ~= nil then",
    ),
    "a replay forgets what was short": Change(
        "settle",
        "answer(a, 'settled', earlier.charged, earlier.shortfall,",
        "answer(a, 'settled', earlier.charged, '0',",
    ),
    "a replay tells the amount of now": Change(
        "parts/place",
        "answer(a, 'approved', text(earlier.first),",
        "answer(a, 'approved', text(earlier.amount),",
    ),
    "an operation without an id is found by its verb alone": Change(
        "parts/operations",
        "id == '' and ',*/' .. verb .. '/' .. fingerprint .. '/' or",
        "id == '' and ',*/' .. verb .. '/' or",
    ),
    # P4, P7: one end of a hold, at its moment.
    "an ended hold expires": Change(
        "parts/returns",
        "if hold.state == 'O' and a.now >= hold.deadline then",
        "if hold.state ~= 'E' and a.now >= hold.deadline then",
    ),
    "a hold expires a moment late": Change(
        "parts/returns", "and a.now >= hold.deadline then", "and a.now > hold.deadline then"
    ),
    "a hold expires a moment early": Change(
        "parts/returns", "and a.now >= hold.deadline then", "and a.now >= hold.deadline - 1 then"
    ),
    "an expired hold counts as open": Change(
        "parts/returns", "a.open = a.open - 1\n", "a.open = a.open - (state == 'E' and 0 or 1)\n"
    ),
    "a hold that expires and is settled at once ends twice": Change(
        "parts/returns",
        "  if hold.state == 'O' then\n    a.open",
        "  if hold.was_open then\n    a.open",
    ),
    "an extension ignores the life of the action": Change(
        "extend", "math.min(a.now + ttl, hold.authorized + life)", "a.now + ttl"
    ),
    "an extension moves a deadline back": Change(
        "extend",
        "math.max(hold.deadline, math.min(a.now + ttl, hold.authorized + life))",
        "math.min(a.now + ttl, hold.authorized + life)",
    ),
    "a raise that is sent twice draws twice": Change(
        "extend", "math.max(0, total - hold.amount)", "math.max(0, total - held_in(hold))"
    ),
    # P8: work done is never written off silently.
    "a late settle takes nothing": Change(
        "settle",
        "math.min(beyond, a.available)",
        "late and 0 or math.min(beyond, a.available)",
    ),
    "a late settle is not called late": Change("settle", "  hold.late = '1'\n", ""),
    "a late settle is accepted where it is rejected": Change(
        "settle", "(late and string.find(hold.pinned, '^ %a%d+x'))", "false"
    ),
    "an overdraft ignores the debt that is there": Change(
        "settle", "math.max(0, limit - a.debt)", "limit"
    ),
    "a settle above the hold is not refused": Change(
        "settle", "and overage == 'r' then", "and overage == 'never' then"
    ),
    "a cap charges what is available": Change(
        "settle", "overage == 'c' and math.min(delivered, held) or delivered", "delivered"
    ),
    # Prices.
    "a half is rounded down": Change(
        "parts/price", "2 * rest >= denominator", "2 * rest > denominator"
    ),
    "a minimum is forgotten": Change(
        "parts/price", "math.max(minimum, flat + whole)", "flat + whole"
    ),
    "nothing delivered costs the flat fee": Change(
        "parts/price", "  if quantity == 0 then\n", "  if quantity < 0 then\n"
    ),
    # The order of buckets and slices.
    "what never ends is drawn first": Change(
        "parts/lists",
        "return x.ends ~= 0 and (y.ends == 0 or x.ends < y.ends) end",
        "return x.ends < y.ends end",
    ),
    "a change of the order of kinds is ignored": Change(
        "parts/account", "if ranks ~= ranked then", "if ranked == '*' then"
    ),
    "the older of two buckets goes last": Change(
        "parts/lists", "return x.created < y.created end", "return x.created > y.created end"
    ),
    "returns run forwards": Change(
        "parts/returns", "  for i = #slices, 1, -1 do\n", "  for i = 1, #slices do\n"
    ),
    # P14 and what comes back.
    "refunds are checked against what was charged alone": Change(
        "refund", "or hold.charged - hold.refunded\n", "or hold.charged\n"
    ),
    "a voided bucket is treated as ended": Change(
        "parts/returns", "elseif row.status == 'V' then", "elseif false then"
    ),
    "an ended bucket takes credits back": Change(
        "parts/returns",
        "if row.status == 'L' or row.status == 'F' then\n          move(a, row, from, 'a', part)",
        "if row.status ~= 'V' then\n          move(a, row, from, 'a', part)",
    ),
    "a forfeit is made good": Change(
        "parts/returns",
        "      if policy == 'compensate' then\n",
        "      if policy ~= 'other' then\n",
    ),
    "a refund follows the policy of failures whatever its reason": Change(
        "refund", "give_back(hold, 'h', n, policy,", "give_back(hold, 'h', n, on_failed,"
    ),
    "an overdraft is refunded twice": Change(
        "refund", "  hold.overdrawn_back = hold.overdrawn_back + overdrawn\n", ""
    ),
    "a paid overdraft is not made good": Change("refund", ", overdrawn - paid)\n", ")\n"),
    # Buckets.
    "a bucket ends a moment late": Change("parts/changes", "a.due <= a.now do", "a.due < a.now do"),
    "a bucket that ends takes the others' ends with it": Change(
        "parts/changes",
        "a.due = next_name and whole(row_of(a, next_name)).ends or 0\n",
        "a.due = 0\n",
    ),
    "a debt is not paid by what arrives": Change(
        "parts/changes", "local paid = math.min(a.debt, n)", "local paid = 0"
    ),
    "a grant may end in the past": Change(
        "grant", "if ends > 0 and ends <= a.now then", "if false then"
    ),
    "a grant is repeated with another amount": Change("grant", "before == amount and ", ""),
    "a grant is repeated as another kind": Change("grant", "row.kind == kind and ", ""),
    "a grant is repeated with another end": Change("grant", "row.ends == ends and ", ""),
    "a grant is repeated for other actions": Change("grant", "row.actions == actions and ", ""),
    "a grant is repeated for other models": Change("grant", " and row.models == models", ""),
    # P16: numbers without gaps, a clock that never runs backwards.
    "a change of a deadline has no number": Change("extend", "record(a, 'extend', hold)\n", ""),
    "a number is skipped": Change(
        "parts/changes", "  a.seq = a.seq + 1\n", "  a.seq = a.seq + (a.seq == 20 and 2 or 1)\n"
    ),
    "an account's clock runs backwards": Change(
        "parts/base", "return now < seen_ms and seen_ms or now", "return now"
    ),
    "a refusal undoes an expiry": Change(
        "extend",
        "  return answer(a, ENDED[hold.state], text(hold.charged), text(hold.refunded))\n",
        "  return { ENDED[hold.state], text(a.seq), text(a.available), text(a.held),"
        " text(a.debt), text(a.now), text(hold.charged), text(hold.refunded) }\n",
    ),
}


# Each is caught by histories of subscriptions.
PLANTED_IN_PLANS = {
    # Turns and what they do to rows.
    "the next turn is forgotten": Change(
        "parts/changes",
        "a.version, a.turn, a.plan, a.cap = version, tonumber(turn_ms), plan, cap",
        "a.version, a.turn, a.plan, a.cap = version, 0, plan, cap",
    ),
    "a turn comes a moment late": Change(
        "parts/account",
        "(a.turn > 0 and a.now >= a.turn) then",
        "(a.turn > 0 and a.now > a.turn) then",
    ),
    "what rolls over has no limit": Change(
        "parts/changes", "math.min(row.a, tonumber(words[9])) or 0", "row.a or 0"
    ),
    "what rolls over is looked up after its row has ended": Change(
        "parts/changes",
        "row and row.status == 'L' and math.min",
        "row and row.ends > a.now and math.min",
    ),
    "what is held rolls over": Change(
        "parts/changes",
        "math.min(row.a, tonumber(words[9]))",
        "math.min(row.a + row.h, tonumber(words[9]))",
    ),
    "a row that is kept ends when the turn comes late": Change(
        "parts/changes", "        TURNS.keep(words[2])\n", ""
    ),
    "a row that is kept stays where it was in the order": Change(
        "parts/changes",
        "        list.remove('order', row)\n        row.ends = 0\n        if row.a > 0 then\n",
        "        row.ends = 0\n        if false then\n",
    ),
    "a downgrade takes what is held": Change(
        "parts/changes",
        "if row and row.status == 'L' and row.a > tonumber(amount) then\n",
        "if row and row.status == 'L' and row.a > tonumber(amount) then\n"
        "      move(a, row, 'h', 'e', row.h)\n",
    ),
    "a downgrade leaves what is available": Change(
        "parts/changes", "      move(a, row, 'a', 'e', row.a - amount)\n", ""
    ),
    "what a period brings pays no debt": Change(
        "parts/changes",
        "  local paid = math.min(a.debt, n)\n",
        "  local paid = verb == 'begin_period' and 0 or math.min(a.debt, n)\n",
    ),
    # Freezing.
    "what is frozen stays in the totals": Change(
        "parts/changes",
        "    a.available = a.available - row.a\n    a.limited = a.limited - limited(row)\n",
        "    a.limited = a.limited - limited(row)\n",
    ),
    "what comes back to a frozen row can be spent": Change(
        "parts/changes", "local spendable = row.status ~= 'F'", "local spendable = true"
    ),
    "a frozen row is still drawn from": Change(
        "parts/changes",
        "  local function freeze_row(row)\n    list.remove('order', row)\n",
        "  local function freeze_row(row)\n",
    ),
    "what thaws is not put in order": Change(
        "parts/changes",
        "    a.limited = a.limited + limited(row)\n    if row.a > 0 then\n",
        "    a.limited = a.limited + limited(row)\n    if false then\n",
    ),
    "a row with limits thaws uncounted": Change(
        "parts/changes",
        "    a.available = a.available + row.a\n    a.limited = a.limited + limited(row)\n",
        "    a.available = a.available + row.a\n",
    ),
    "a lapse freezes buckets of every kind": Change(
        "parts/changes", "ipairs(live_rows(kind, 'L'))", "ipairs(live_rows(nil, 'L'))"
    ),
    # What comes back after its period.
    "restored credits pass the allowance": Change(
        "parts/returns", "math.max(0, math.min(n, live.s - restored))", "n"
    ),
    "credits are restored to another bucket": Change(
        "parts/returns",
        "local row = string.match(other, '^([^#]+)#') == bucket and row_of(a, other)",
        "local row = string.match(other, '^([^#]+)#') and row_of(a, other)",
    ),
    # Limits beside credits.
    "a frozen account may run jobs": Change(
        "parts/place", "if a.frozen == '1' then", "if false then"
    ),
    "any plan may run the job": Change(
        "parts/place", "if wanted.gate ~= '*' then", "if false then"
    ),
    "one hold too many is open": Change(
        "parts/place", "open_max > 0 and a.open >= open_max", "open_max > 0 and a.open > open_max"
    ),
    "a charge counts as an open hold": Change(
        "parts/place", "limit_of(a, wanted, price, not charged)", "limit_of(a, wanted, price, true)"
    ),
    "a member's limit ignores what was drawn": Change(
        "parts/place",
        "    if limit and used + draw > limit then\n",
        "    if limit and draw > limit then\n",
    ),
    "a raise ignores the member's limit": Change(
        "extend", "if limit and used + raise > limit then", "if false then"
    ),
    "a raise is not counted": Change("extend", "count_member(a, hold, raise)\n", ""),
    "a raise in another period is not counted": Change(
        "parts/credits",
        "    if n <= 0 then\n      return\n    end\n    hold.cap",
        "    if true then\n      return\n    end\n    hold.cap",
    ),
    "what comes back is counted all the same": Change(
        "settle", "    count_member(a, hold, -returned)\n", ""
    ),
    "what comes back of an earlier period lowers this one": Change(
        "parts/credits",
        "  if hold.cap ~= a.cap then\n    if n <= 0 then\n",
        "  if hold.cap ~= a.cap and n > 0 then\n    if false then\n",
    ),
    "a member's count goes on over periods": Change(
        "parts/credits", "used = period == a.cap and tonumber(used) or 0,", "used = tonumber(used),"
    ),
    "the limit of each member is ignored": Change(
        "parts/credits",
        "limit = tonumber(own) or tonumber(got[2] or ''),",
        "limit = tonumber(own),",
    ),
    "members' limits come after open holds": Change(
        "parts/place",
        "  if wanted.member ~= '*' then\n    local limit, used = member_share(a, wanted.member)\n",
        "  if opens and open_max > 0 and a.open >= open_max then\n"
        "    return 'concurrency_limit', '0'\n  end\n"
        "  if wanted.member ~= '*' then\n    local limit, used = member_share(a, wanted.member)\n",
    ),
    # Events, purchases, denials.
    "an event is not remembered": Change(
        "reschedule", "put(a, 'x:' .. reference, fingerprint)\n", ""
    ),
    "an event's reference may name another": Change(
        "reschedule", "known == fingerprint and 'replayed' or 'id_reused'", "'replayed'"
    ),
    "any plan may buy": Change("grant", "if buyers ~= '*' and not", "if false and not"),
    "a denial is not noted": Change(
        "parts/place", "      put(a, 'denied', text(a.seq) .. ' ' .. denied)\n", ""
    ),
    "the same denial is noted again": Change(
        "parts/place",
        "if not noted or string.match(noted, '^%d+ (.*)$') ~= denied then",
        "if true then",
    ),
}


@contextlib.asynccontextmanager
async def planted_ledger(url: str, verbs: Verbs) -> AsyncIterator[tuple[RedisLedger, Clock]]:
    clock = Clock()
    ledger = await RedisLedger.open(url, clock=clock, verbs=verbs)
    try:
        yield ledger, clock
    finally:
        await ledger.close()


@pytest.mark.parametrize("name", PLANTED)
async def test_histories_catch_it_when(store_url: str, name: str) -> None:
    async with planted_ledger(store_url, planted(PLANTED[name])) as (ledger, clock):
        set_time: SetTime = clock.set
        with pytest.raises(Difference) as caught:
            await tell(Telling(ledger, set_time), 7, OPERATIONS, f"planted-{uuid.uuid4().hex[:8]}")
    # A script that only crashes would be caught by anything.
    assert "STORE_UNAVAILABLE" not in str(caught.value)


@pytest.mark.parametrize("name", PLANTED_IN_PLANS)
async def test_histories_of_subscriptions_catch_it_when(store_url: str, name: str) -> None:
    async with planted_ledger(store_url, planted(PLANTED_IN_PLANS[name])) as (ledger, clock):
        set_time: SetTime = clock.set
        prefix = f"planted-{uuid.uuid4().hex[:8]}"
        with pytest.raises(Difference) as caught:
            await tell(Telling(ledger, set_time), 7, 2 * OPERATIONS, prefix, PLANS)
    assert "STORE_UNAVAILABLE" not in str(caught.value)


@contextlib.asynccontextmanager
async def planted_bench(url: str, verbs: Verbs) -> AsyncIterator[Bench]:
    async with planted_ledger(url, verbs) as (ledger, clock):
        account_id = f"planted-{uuid.uuid4().hex[:12]}"
        bench = Bench(ledger, clock, account_id=account_id, beside=Model(START_MS))
        await bench.run(bench.ask.put())
        yield bench


async def test_a_case_catches_it_when_one_operation_too_many_is_recorded(store_url: str) -> None:
    bug = Change("parts/operations", "local OPERATIONS_MAX = 100", "local OPERATIONS_MAX = 101")
    async with planted_bench(store_url, planted(bug)) as bench:
        with pytest.raises(CAUGHT):
            await test_settle.test_a_hundred_operations_are_recorded_and_not_one_more(
                bench, partial=True
            )


# Each is caught by a case; what histories meet too seldom.
PLANTED_FOR_CASES: dict[str, tuple[Change, Case]] = {
    "a period that begins with nothing is not written": (
        Change(
            "parts/changes",
            "    a.row[name] = row\n    row.touched = true\n    a.limited",
            "    a.row[name] = row\n    a.limited",
        ),
        test_subscriptions.test_a_period_that_begins_with_nothing_is_there,
    ),
    "a frozen bucket cannot be voided": (
        Change(
            "void_bucket",
            "if row.status == 'L' or row.status == 'F' then",
            "if row.status == 'L' then",
        ),
        test_subscriptions.test_a_frozen_bucket_can_be_voided,
    ),
    "what thaws passes the largest amount": (
        Change(
            "parts/changes", "if row.a <= AMOUNT_MAX - a.available - a.held then", "if true then"
        ),
        test_subscriptions.test_what_thaws_never_passes_the_largest_amount,
    ),
    "what was restored is forgotten": (
        Change("parts/returns", "    put(a, 'r:' .. live.name, text(live.restored))\n", ""),
        test_subscriptions.test_credits_are_restored_as_far_as_the_new_period_was_spent,
    ),
    "an account older than the plans never begins one": (
        Change(
            "parts/account", "local first = version == '0' and turn ~= ''", "local first = false"
        ),
        test_subscriptions.test_an_account_older_than_the_catalogs_plans_begins_the_default_one,
    ),
}


@pytest.mark.parametrize("name", PLANTED_FOR_CASES)
async def test_a_case_of_subscriptions_catches_it_when(store_url: str, name: str) -> None:
    change, case = PLANTED_FOR_CASES[name]
    async with planted_bench(store_url, planted(change)) as bench:
        with pytest.raises((*CAUGHT, AttributeError)):
            await case(bench)


# Each is caught by an account with many buckets.
PLANTED_IN_LISTS = {
    "a new chunk is the last one": Change(
        "parts/lists", "table.insert(fields, i + 1,", "table.insert(fields, #fields + 1,"
    ),
    "a new chunk takes the number of another": Change(
        "parts/lists",
        "table.insert(fields, i + 1, list .. text(highest + 1))",
        "table.insert(fields, i + 1, list .. text(math.max(highest, 1)))",
    ),
    "half of a chunk is lost": Change(
        "parts/lists", "    set_chunk(fields[i + 1], string.sub(names, middle))\n", ""
    ),
    "every row belongs into the first chunk": Change(
        "parts/lists", "    return last ~= nil and", "    return true or"
    ),
    "a row goes into the chunk before its own": Change(
        "parts/lists", "      else\n        lo = middle\n", "      else\n        lo = hi\n"
    ),
    "an emptied first chunk hides the others": Change(
        "parts/lists", "names = i == 1 and chunk(fields[2]) or ' '", "names = ' '"
    ),
    "only the first chunk is drawn from": Change(
        "parts/credits", "chunk = fields[i] and lists(a).chunk(fields[i])", "chunk = nil"
    ),
    "a list sorted anew keeps its chunks": Change("parts/account", "    list.clear('order')\n", ""),
}


@pytest.mark.parametrize("name", PLANTED_IN_LISTS)
async def test_an_account_with_many_buckets_catches_it_when(store_url: str, name: str) -> None:
    verbs = planted(PLANTED_IN_LISTS[name])
    with pytest.raises(CAUGHT):
        await lives_with_many_buckets(store_url, verbs)


async def lives_with_many_buckets(url: str, verbs: Verbs) -> None:
    for seed in range(4):
        async with planted_bench(url, verbs) as bench:
            await test_many_buckets.live(bench, seed)
            await bench.audit()


@pytest.mark.parametrize(
    "write",
    [
        "    redis.call('ZADD', a.deadlines, '+inf', '*')\n",
        "    redis.call('HSETNX', a.closed, '*', '-')\n",
        "      redis.call('XADD', a.ledger, 'MAXLEN', '0', '*', 'entry', '')\n",
    ],
    ids=["deadlines", "closed", "ledger"],
)
async def test_a_case_catches_a_key_that_comes_later(write: str) -> None:
    async with test_many_buckets.alone(planted(Change("parts/account", write, ""))) as bench:
        with pytest.raises(CAUGHT):
            await test_many_buckets.every_key_stays(bench)


async def test_a_race_catches_turns_that_are_applied_whatever_came_between(
    store_url: str,
) -> None:
    bug = Change(
        "parts/changes",
        "if string.match(turn, '^(%d+) ') ~= a.version then",
        "if string.match(turn, '^(%d+) ') == nil then",
    )
    async with contextlib.AsyncExitStack() as stack:
        ledgers: list[Ledger] = []
        for _ in range(test_races.SIDECARS):
            ledger, _clock = await stack.enter_async_context(
                planted_ledger(store_url, planted(bug))
            )
            ledgers.append(ledger)
        with pytest.raises(CAUGHT):
            await test_races.test_events_told_at_once_are_applied_one_after_another(
                test_races.Crowd(ledgers)
            )


FINGERPRINTED = [
    command for command in test_replays.full(Ask("?")) if not isinstance(command, c.Grant)
]


@pytest.mark.parametrize(
    ("command", "field"),
    [(command, field) for command in FINGERPRINTED for field in content_fields(command)],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
async def test_cases_catch_a_fingerprint_that_misses(
    store_url: str, command: c.Command[Any], field: str
) -> None:
    """P6."""
    verbs = {**VERBS, type(command): forgetful(type(command), field)}
    label = f"{type(command).__name__}.{field}-full"
    [mutation] = [mutation for mutation in test_replays.MUTATIONS if mutation[0] == label]
    case = test_replays.test_an_id_used_again_with_other_content_is_refused_and_changes_nothing
    async with planted_bench(store_url, verbs) as bench:
        with pytest.raises(CAUGHT):
            await case(bench, mutation)


def forgetful(kind: type[c.Command[Any]], field: str) -> Any:
    """The verb of a command, with a fingerprint that does not see one of its fields."""
    verb = VERBS[kind]
    [spec] = [spec for spec in dataclasses.fields(kind) if spec.name == field]
    change: dict[str, Any] = {field: spec.default}
    if spec.default is dataclasses.MISSING:
        change = {field: c.Job(action="any")}

    def arguments(command: c.Command[Any], clock: str, turn: str) -> list[str]:
        blind = dataclasses.replace(command, **change)
        return [
            blind.fingerprint if word == command.fingerprint else word
            for word in verb.arguments(command, clock, turn)
        ]

    return dataclasses.replace(verb, arguments=arguments)


class ChecksOutside:
    """Asks for the balance, decides, and then holds: two steps, between which others step in."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def run(self, command: c.Command[c.ReplyT]) -> c.ReplyT:
        """Run one command."""
        if isinstance(command, c.Authorize) and command.terms is not None:
            ask = Ask(command.account_id)
            balance = await self.ledger.run(ask.balance())
            if balance.payable < command.terms.amount:
                denial: Any = r.Authorized(
                    decision=Decision.INSUFFICIENT_CREDITS,
                    amount=command.terms.amount,
                    hold=None,
                    missing=command.terms.amount - balance.payable,
                    replayed=False,
                    totals=balance.totals,
                )
                reply: c.ReplyT = denial
                return reply
        return await self.ledger.run(command)

    async def run_all(self, commands: Sequence[c.Command[Any]]) -> list[Any | Fault]:
        """Run many commands."""
        return await self.ledger.run_all(commands)


@pytest.mark.parametrize(
    "race",
    [
        test_races.test_a_crowd_gets_every_credit_there_is_and_not_one_more,
        test_races.test_ten_concurrent_3_credit_requests_on_3_credits_start_one_job,
    ],
    ids=["crowd", "ten"],
)
async def test_races_catch_a_check_outside_the_script(store_url: str, race: Any) -> None:
    """P2."""
    bug = Change("parts/place", "  if got < price then\n", "  if false then\n")
    async with contextlib.AsyncExitStack() as stack:
        ledgers = []
        for _ in range(test_races.SIDECARS):
            ledger, _clock = await stack.enter_async_context(
                planted_ledger(store_url, planted(bug))
            )
            ledgers.append(ChecksOutside(ledger))
        with pytest.raises(CAUGHT):
            await race(test_races.Crowd(ledgers))
