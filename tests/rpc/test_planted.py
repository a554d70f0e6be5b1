"""Each of these defects is noticed by a test of this folder."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from creditgate_server.core.commands import Command
from creditgate_server.core.faults import invalid
from creditgate_server.core.prices import AMOUNT_MAX
from creditgate_server.rpc import checks
from creditgate_server.rpc.endpoint import Endpoint
from tests.rpc import test_bad_input as bad_input
from tests.rpc import test_credits, test_malformed
from tests.rpc.shop import Shop

LONGER = re.compile(r"[A-Za-z0-9_.:-]{1,129}").fullmatch
BRACES = re.compile(r"[A-Za-z0-9_.:{}-]{1,128}").fullmatch
# What `$` forgives and fullmatch does not.
LINES = re.compile(r"[A-Za-z0-9_.:-]{1,128}$").match


def amount_of_any_size(value: int, _field: str, _least: int = 0) -> int:
    return value


def amount_without_its_field(value: int, _field: str, least: int = 0) -> int:
    if not least <= value <= AMOUNT_MAX:
        raise invalid("request", "has a number outside its range")
    return value


def read_as_it_is(self: Endpoint, body: bytes) -> Any:
    return self._parse(body)


def blind(_self: Command[Any]) -> str:
    return "0123456789abcdef"


def field(method: str, path: str) -> Callable[[Shop], None]:
    """The test of one field of one method."""
    row = next(c for c in bad_input.CASES if (bad_input.VALID[c[0]][0], c[1]) == (method, path))
    return lambda shop: bad_input.test_a_field_outside_its_range_is_named_and_nothing_changes(
        shop, *row
    )


def other_content(shop: Shop) -> None:
    method, fields, changes = test_credits.REPEATABLE[0]
    for change in changes:
        test_credits.test_the_same_id_with_other_content_is_refused_and_tells_nothing(
            shop, method, fields, change
        )


PLANTED: dict[str, tuple[Any, str, Any, Callable[[Shop], None]]] = {
    "an id of 129 characters": (checks, "_matches_id", LONGER, field("Charge", "hold_id")),
    "an id with braces": (checks, "_matches_id", BRACES, field("GetHold", "account_id")),
    "an id with a newline": (checks, "_matches_id", LINES, field("GetHold", "hold_id")),
    "an amount of 2^53": (checks, "AMOUNT_MAX", 2**53, field("Authorize", "max_amount")),
    "any amount": (checks, "amount", amount_of_any_size, field("GrantCredits", "amount")),
    "a fault that names no field": (
        *(checks, "amount", amount_without_its_field),
        field("GrantCredits", "amount"),
    ),
    "a page too many": (checks, "PAGE_MAX", 2**31, field("ListHolds", "page_size")),
    "a year too long": (checks, "DURATION_S_MAX", 2**62, field("Authorize", "ttl")),
    "a setting too many": (checks, "SETTINGS_MAX", 17, field("Quote", "job.settings")),
    "a cursor beyond 2^64": (checks, "_CURSOR_MAX", 2**70, field("ListLedger", "page_token")),
    "bytes parsed without a net": (
        *(Endpoint, "_read", read_as_it_is),
        test_malformed.test_no_bytes_crash_it_leak_text_or_change_what_they_are_refused_to,
    ),
    "a fingerprint of nothing": (
        *(Command, "fingerprint", property(blind)),
        other_content,
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_defect_is_noticed(the_shop: Shop, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, instead, notice = PLANTED[what]
    monkeypatch.setattr(place, name, instead)
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            notice(the_shop)
    finally:
        # What the defect let pass must not be let pass as known.
        checks.known_job.cache_clear()


@pytest.mark.parametrize("what", PLANTED)
def test_without_the_defect_nothing_is_noticed(the_shop: Shop, what: str) -> None:
    *_, notice = PLANTED[what]
    if notice is not PLANTED["bytes parsed without a net"][3]:
        notice(the_shop)
