"""Random lives: what is true of a schedule whatever happens to it, and when."""

import copy
import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from creditgate_server.core import schedule as s
from creditgate_server.core.calendar import Every
from creditgate_server.core.plans import AddOn, OnLapse, Plan, Plans, RecurringGrant, SeatShare
from creditgate_server.core.plans import Upgrade as UpgradeBy
from creditgate_server.core.schedule import Refused, Schedule, When
from tests.schedule.life import Life
from tests.schedule.times import DAY_MS, HOUR_MS, ZONES, ms

START_MS, END_MS = ms("2024-01-01"), ms("2027-01-01")
NAMES = ("free", "basic", "pro", "yearly")
GRANTS = ("daily", "base", "bonus")

everys = st.sampled_from(Every)
lapses = st.sampled_from(OnLapse)


@st.composite
def catalogs(draw: st.DrawFn, rollover: int = 0) -> Plans:
    """A free plan and three others, of grants that share their names."""

    def grant(name: str) -> RecurringGrant:
        every = Every.DAY if name == "daily" else draw(everys.filter(lambda e: e is not Every.DAY))
        return RecurringGrant(
            name=name,
            kind="S",
            amount=draw(st.integers(0, 1000)),
            every=every,
            per_seat=draw(st.booleans()),
            on_lapse=draw(lapses),
            rollover_max=rollover,
        )

    def plan(name: str) -> Plan:
        return Plan(
            name=name,
            title=name,
            subscription=name != "free",
            billing=Every.YEAR if name == "yearly" else Every.MONTH,
            grants=tuple(grant(each) for each in GRANTS if draw(st.booleans())),
        )

    add_on = AddOn(
        name="units",
        title="units",
        amounts={"basic": 60, "pro": 200},
        every={"basic": Every.MONTH, "pro": Every.MONTH},
        per_seat=frozenset({"pro"}),
        on_lapse=draw(lapses),
    )
    return Plans(
        plans=tuple(plan(name) for name in NAMES),
        default="free",
        add_ons=(add_on,),
        upgrade=draw(st.sampled_from(UpgradeBy)),
        seat_share=draw(st.sampled_from(SeatShare)),
        top_up_on_lapse=draw(lapses),
    )


whens = st.sampled_from([None, *When])
moments = st.integers(START_MS, END_MS)
some = st.none() | moments
events: st.SearchStrategy[s.Event] = st.one_of(
    st.builds(
        s.Subscribe,
        plan=st.sampled_from(NAMES),
        seats=st.integers(1, 5),
        anchor_ms=some,
        paid_through_ms=some,
        allowances=st.sampled_from([(), (("base", 5000),)]),
    ),
    st.builds(
        s.ChangePlan,
        plan=st.sampled_from(("", *NAMES)),
        seats=st.integers(0, 5),
        when=whens,
    ),
    st.builds(s.Cancel, when=whens),
    st.builds(s.SetAddOns, name=st.just("units"), units=st.integers(0, 3)),
    st.builds(s.SetZone, zone=st.sampled_from(ZONES)),
)
sleeps = st.one_of(
    st.just(0), st.integers(1, 3 * DAY_MS), st.integers(1, 90 * DAY_MS), st.just(HOUR_MS)
)
histories = st.lists(st.tuples(sleeps, events), max_size=12)


def lived(plans: Plans, history: list[tuple[int, s.Event]], zone: str) -> Life:
    life = Life(plans, "2024-01-31 10:30", zone)
    sound(life)
    for sleep_ms, event in history:
        life.at(life.now_ms + sleep_ms)
        sound(life)
        try:
            life.do(event)
        except Refused:
            continue
        sound(life)
    return life


def sound(life: Life) -> None:
    """What holds at every moment; `Life` itself fails where a row begins twice."""
    schedule, now_ms = life.schedule, life.now_ms
    assert schedule.next_turn_ms == 0 or schedule.next_turn_ms > now_ms
    for name, running in schedule.recurring.items():
        row = life.rows[s.row_name(name, running.number)]
        assert row.live
        assert row.ends_ms == running.ends_ms > now_ms
        assert running.given >= running.amount >= 0
    assert not schedule.recurring.keys() & schedule.numbers.keys()
    again = s.caught_up(schedule, life.plans, now_ms)
    assert not again.changes
    assert s.load(s.dump(schedule)) == schedule


def state(life: Life) -> tuple[dict[str, int], Schedule]:
    """All that is left of the way here, but for the counts of turns and of cap periods."""
    return life.live, dataclasses.replace(life.schedule, version=0, cap_period=0)


@given(catalogs(rollover=40), histories, st.sampled_from(ZONES))
def test_a_schedule_is_sound_whatever_happens(
    plans: Plans, history: list[tuple[int, s.Event]], zone: str
) -> None:
    lived(plans, history, zone)


@given(catalogs(), histories, st.sampled_from(ZONES), st.integers(1, 200 * DAY_MS))
def test_to_sleep_is_to_end_where_one_who_stayed_awake_does(
    plans: Plans, history: list[tuple[int, s.Event]], zone: str, sleep_ms: int
) -> None:
    asleep = lived(plans, history, zone)
    awake = copy.deepcopy(asleep)
    wakes_ms = asleep.now_ms + sleep_ms
    while 0 < awake.schedule.next_turn_ms <= wakes_ms:
        awake.at(awake.schedule.next_turn_ms)
        sound(awake)
    assert state(asleep.at(wakes_ms)) == state(awake.at(wakes_ms))


@given(catalogs(), histories, st.sampled_from(ZONES))
def test_what_is_told_to_come_comes(
    plans: Plans, history: list[tuple[int, s.Event]], zone: str
) -> None:
    life = lived(plans, history, zone)
    told = s.upcoming(life.schedule, plans, life.now_ms)
    assert [item.at_ms for item in told] == sorted(item.at_ms for item in told)
    assert all(item.at_ms > life.now_ms for item in told)
    for item in told:
        life.at(item.at_ms)
        if item.coming is not s.Coming.RESET:
            assert (life.schedule.plan, life.schedule.seats) == (item.plan, item.seats)
            continue
        running = life.schedule.recurring[item.row.rpartition("#")[0]]
        assert running.amount == item.amount
        assert not life.rows[item.row].live or life.ends(item.row) is None


@given(catalogs(), histories, st.sampled_from(ZONES), st.integers(1, 40 * DAY_MS))
def test_an_event_that_is_older_than_another_changes_nothing(
    plans: Plans, history: list[tuple[int, s.Event]], zone: str, older_ms: int
) -> None:
    life = lived(plans, history, zone)
    occurred_ms = life.schedule.occurred_ms - older_ms
    if life.schedule.occurred_ms:
        assert not life.do(s.Cancel(occurred_ms=occurred_ms))
        assert not life.do(s.Subscribe(plan="pro", occurred_ms=occurred_ms))
