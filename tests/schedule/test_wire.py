"""A turn as the scripts take it, and a schedule as the store keeps it: to the letter."""

from dataclasses import replace

import pytest

from creditgate_server.core.calendar import Every
from creditgate_server.core.plans import OnLapse
from creditgate_server.core.schedule import (
    AtMost,
    Begin,
    Change,
    End,
    FreezeRow,
    Keep,
    Lapse,
    More,
    Op,
    Recurring,
    Schedule,
    Thaw,
    Turn,
    Units,
    dump,
    encode,
    load,
)

ALL = Begin(
    row="base#2",
    kind="S",
    amount=100,
    ends_ms=1_700_000_000_000,
    actions=("paint", "draw"),
    models=("m-1",),
    roll_from="base#1",
    roll_max=7,
)
LINES: list[tuple[Op, str]] = [
    (ALL, "begin base#2 S 100 1700000000000 paint,draw m-1 base#1 7"),
    (Begin(row="daily#0", kind="F", amount=0, ends_ms=5), "begin daily#0 F 0 5 * * * 0"),
    (More(row="base#2", amount=2**53 - 1), "more base#2 9007199254740991"),
    (AtMost(row="base#2", amount=0), "at_most base#2 0"),
    (End(row="base#2"), "end base#2"),
    (Keep(row="base#2"), "keep base#2"),
    (FreezeRow(row="base#2"), "freeze base#2"),
    (Lapse(kind="T", on_lapse=OnLapse.EXPIRE), "lapse T end"),
    (Lapse(kind="T", on_lapse=OnLapse.FREEZE), "lapse T freeze"),
    (Thaw(), "thaw"),
]


@pytest.mark.parametrize(("op", "line"), LINES)
def test_a_change_of_a_row_is_one_line(op: Op, line: str) -> None:
    turn = Turn(of=3, schedule=Schedule(version=4, plan="pro", cap_period=2), ops=(op,))
    assert encode(turn).split("\n") == ["3 4 0 pro 2", "", line]


def test_an_account_without_plan_and_turn_says_so() -> None:
    assert encode(Turn(of=0, schedule=Schedule())) == "0 0 0 * 0\n"


def test_what_is_at_its_default_is_not_kept() -> None:
    assert dump(Schedule()) == "0 * 0"
    assert load("0 * 0") == Schedule()
    kept = Schedule(version=2, zone="Asia/Tokyo", units={"units": Units(now=2, next=0)})
    assert dump(kept) == "2 * 0 zAsia/Tokyo uunits/2/0"
    assert load(dump(kept)) == kept


def test_a_word_is_kept_of_each_thing_that_a_schedule_says() -> None:
    daily = Recurring(
        anchor_ms=36,
        zone="Asia/Tokyo",
        every=Every.DAY,
        ordinal=3,
        number=3,
        ends_ms=35,
        amount=50,
        given=50,
    )
    kept = Schedule(
        version=9,
        zone="Europe/Paris",
        plan="pro",
        seats=2,
        anchor_ms=36,
        anchor_zone="Asia/Tokyo",
        paid_through_ms=0,
        ends_ms=1_795_780_470_193,
        change=Change(plan="free", seats=1, at_ms=37),
        occurred_ms=1,
        cap_period=7,
        allowances={"daily": 60},
        recurring={
            "daily": daily,
            "base": replace(
                daily, every=Every.QUARTER, number=0, given=0, anchor_ms=-36, zone="America/Lima"
            ),
        },
        units={"units": Units(now=2, next=0)},
        numbers={"old": 4},
    )
    assert dump(kept) == (
        "9 pro 7 zEurope/Paris AAsia/Tokyo a10 p0 emwyxbqup o1 s2 cfree/1/11 ldaily/60"
        " rdaily/d/3//z/50/ rbase/q/3/0/z/50/0/-10/America/Lima uunits/2/0 nold/4"
    )
    assert load(dump(kept)) == kept


def test_a_schedule_of_another_release_is_not_read_as_ours() -> None:
    with pytest.raises(AssertionError, match="another release"):
        load("1 * 0 t3")
