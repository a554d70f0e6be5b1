"""A test counts only after it has caught its planted bug: here they are, planted and caught.

Each changes one text in how turns are worked out; one that is not there exactly once fails.
"""

import inspect
from collections.abc import Callable

import pytest

from creditgate_server.core import calendar, schedule
from creditgate_server.core.calendar import Every
from tests.schedule import test_calendar, test_events, test_lives

Test = Callable[[], None]

PLANTED: dict[str, tuple[str, str, Test]] = {
    "the last number of a bucket is forgotten": (
        "self.s.numbers.get(name, -1)",
        "-1",
        test_events.test_row_names_never_come_again,
    ),
    "what was given is given again": (
        "given=max(amount, running.given)",
        "given=amount",
        test_events.test_a_downgrade_now_lowers_what_is_available_and_gives_nothing_twice,
    ),
    "an account that slept lapses from the period in which it fell asleep": (
        "self._renew_due(lapses - 1)",
        "pass",
        test_events.test_a_kept_bucket_is_kept_also_when_the_account_slept,
    ),
    "the old plan's period begins before it is changed": (
        "self._renew_due(change.at_ms - 1)",
        "self._renew_due(change.at_ms)",
        test_events.test_a_change_that_waited_begins_one_period,
    ),
    "the last hours of a day come again further west": (
        "first = before.ordinal + 1",
        "first = before.ordinal",
        test_events.test_another_zone_counts_from_each_bucket_s_next_period_and_gives_none_twice,
    ),
    "an anchor that drifts gives a period of seconds": (
        "first = _first_from(",
        "first = calendar.number_at(",
        test_events.test_an_anchor_later_by_seconds_at_each_renewal_gives_one_allowance_a_month,
    ),
    "a daily grant begins anew with every plan": (
        "grant.every is Every.DAY or not (restart or leaving)",
        "not (restart or leaving)",
        test_lives.test_imagine_everyone_has_a_daily_grant_and_subscribers_a_monthly_one,
    ),
    "fewer units count at once": (
        "if units is not None and units.now != units.next:",
        "if False:",
        test_lives.test_studios_add_ons_renew_with_the_plan_until_they_are_cancelled,
    ),
    "a subscription ends after its last period was renewed": (
        "elif lapses is not None and lapses <= to_ms:",
        "elif lapses is not None and lapses < to_ms:",
        test_lives.test_recraft_free_users_reset_daily_and_subscribers_monthly,
    ),
    "a change comes before the end of the same moment": (
        "change.at_ms < lapses",
        "change.at_ms <= lapses",
        test_events.test_a_cancellation_outlives_a_change_and_comes_before_one_of_its_moment,
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, instead, test = PLANTED[bug]
    source = inspect.getsource(schedule._Work)
    assert source.count(text) == 1, f"it is there {source.count(text)} times: {text}"
    space = dict(vars(schedule))
    exec(source.replace(text, instead), space)
    monkeypatch.setattr(schedule, "_Work", space["_Work"])
    with pytest.raises(AssertionError):
        test()


def test_stepping_from_the_last_boundary_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = calendar.boundary

    def stepped(anchor_ms: int, zone: str, every: Every, number: int) -> int:
        for _ in range(number):
            anchor_ms = right(anchor_ms, zone, every, 1)
        return anchor_ms

    monkeypatch.setattr(calendar, "boundary", stepped)
    monkeypatch.setattr(test_calendar, "boundary", stepped)
    for test in (
        test_lives.test_recraft_free_users_reset_daily_and_subscribers_monthly,
        test_calendar.test_31_may_is_followed_by_30_june_and_31_july,
    ):
        with pytest.raises(AssertionError):
            test()
