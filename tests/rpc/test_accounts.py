"""What the comments of the services Accounts and Catalog promise, over the wire."""

from typing import Any

import pytest

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from creditgate_server.core.prices import AMOUNT_MAX
from tests.rpc.shop import IMAGE, ONE, Account, Shop, refused


def test_an_account_is_created_once_and_changed_after_that(the_shop: Shop) -> None:
    account = Account(the_shop.channel, "put")
    first = account.put_account()
    assert (first.created, first.account.zone) == (True, "UTC")
    second = account.put_account(zone="Europe/Berlin")
    assert (second.created, second.account.zone) == (False, "Europe/Berlin")
    # Empty changes nothing.
    third = account.put_account()
    assert (third.created, third.account.zone) == (False, "Europe/Berlin")
    assert third.account.created_at == first.account.created_at
    assert account.get_account().account.zone == "Europe/Berlin"
    assert account.ledger() == []


@pytest.mark.parametrize(
    "kind", sorted(set(rs.Kind.values()) - {rs.KIND_UNSPECIFIED, rs.KIND_COMPENSATION})
)
def test_credits_of_every_kind_but_compensation_can_be_granted(the_shop: Shop, kind: int) -> None:
    account = the_shop.account()
    answer = account.grant("ref", 7, kind=kind)
    assert (answer.bucket.bucket_id, answer.bucket.kind) == ("ref", kind)
    assert (answer.bucket.granted, answer.bucket.available) == (7, 7)
    assert (answer.totals.available, answer.replayed) == (7, False)
    assert not answer.bucket.HasField("ends_at")


def test_a_grant_may_be_as_large_as_amounts_are_and_totals_are_no_larger(the_shop: Shop) -> None:
    account = the_shop.account()
    assert account.grant("all", AMOUNT_MAX).totals.available == AMOUNT_MAX
    with refused(Reason.AMOUNT_OVERFLOW, account_id=account.account_id):
        account.grant("one", 1)
    # A retry is answered before that is looked at.
    assert account.grant("all", AMOUNT_MAX).replayed


def test_voiding_takes_what_is_available_and_what_is_held_follows(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.hold(hold_id="h")
    answer = account.void_bucket(bucket_id="pack")
    assert (answer.bucket.voided, answer.bucket.held, answer.bucket.ended) == (90, 10, True)
    before = account.state()
    again = account.void_bucket(bucket_id="pack")
    assert again.bucket == answer.bucket
    assert account.state() == before
    account.refund(hold_id="h")
    assert account.bucket().voided == 100


def test_the_ledger_is_listed_the_latest_first_in_pages_without_gaps(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    for _ in range(120):
        account.hold(ONE)
    for size, first in ((1, 1), (7, 7), (0, 100), (1_000, 121)):
        seqs: list[int] = []
        token = ""
        while True:
            page = account.list_ledger(page_size=size, page_token=token)
            if not seqs:
                assert len(page.entries) == first
            seqs += [entry.seq for entry in page.entries]
            token = page.next_page_token
            if not token:
                break
        assert seqs == list(range(121, 0, -1))


def test_a_page_stays_where_it_was_when_changes_come_in_between(the_shop: Shop) -> None:
    account = the_shop.account(100)
    for _ in range(5):
        account.hold(ONE)
    page = account.list_ledger(page_size=3)
    account.hold(ONE)
    rest = account.list_ledger(page_token=page.next_page_token)
    assert [entry.seq for entry in (*page.entries, *rest.entries)] == [6, 5, 4, 3, 2, 1]


def test_an_entry_says_who_what_and_what_moved(the_shop: Shop) -> None:
    account = the_shop.account(100)
    account.authorize(hold_id="h", job=IMAGE, member_id="ann")
    account.settle(hold_id="h", operation_id="p", amount=4, partial=True)
    account.settle(hold_id="h")
    grant, placed, part, last = account.ledger()
    said: list[Any] = []
    for entry in (grant, placed, part, last):
        moves = [
            (m.bucket_id, rs.Figure.Name(getattr(m, "from")), rs.Figure.Name(m.to), m.amount)
            for m in entry.moves
        ]
        said.append((rs.LedgerVerb.Name(entry.verb), entry.hold_id, entry.operation_id, moves))
    available, held, spent = "FIGURE_AVAILABLE", "FIGURE_HELD", "FIGURE_SPENT"
    assert said == [
        ("LEDGER_VERB_GRANT", "", "", [("pack", "FIGURE_GRANTED", available, 100)]),
        ("LEDGER_VERB_AUTHORIZE", "h", "", [("pack", available, held, 10)]),
        ("LEDGER_VERB_SETTLE", "h", "p", [("pack", held, spent, 4)]),
        ("LEDGER_VERB_SETTLE", "h", "", [("pack", held, spent, 6)]),
    ]
    assert (placed.member_id, placed.action, placed.held_after) == ("ann", "image", 10)
    assert (last.available_after, last.held_after, last.debt_after) == (90, 0, 0)


def test_the_catalog_says_what_is_sold_in_burn_down_order(the_shop: Shop) -> None:
    account = Account(the_shop.channel, "any")
    catalog = account.get_catalog()
    assert (catalog.name, catalog.unit, catalog.decimals) == ("shop", "credit", 0)
    assert catalog.version == the_shop.running.catalog.version
    assert list(catalog.packs) == [50, 200, 1_000]
    # Compensation comes first, and the others by their rank.
    assert list(catalog.kinds) == [7, 1, 2, 3, 4, 5, 6]


def test_prices_are_listed_in_the_order_of_the_catalog_all_or_of_one_action(
    the_shop: Shop,
) -> None:
    account = Account(the_shop.channel, "any")
    everything = account.list_prices()
    assert [(p.action, p.model) for p in everything.prices] == [
        *(("image", ""), ("one", ""), ("draw", "small"), ("draw", "tall"), ("gift", "")),
        *(("fee", ""), ("strict", ""), ("greedy", ""), ("trusting", "")),
    ]
    assert everything.catalog_version == account.get_catalog().version
    tall = account.list_prices(action="draw").prices[1]
    assert (tall.price.rate_numerator, tall.price.unit) == (4, "image")
    [setting] = tall.settings
    assert (setting.name, setting.default_value) == ("resolution", "hd")
    assert dict(setting.factors) == {"hd": "1", "4k": "2.5"}
    assert (tall.ttl.seconds, tall.ttl_max.seconds) == (600, 3_600)
    assert not account.list_prices(action="unknown").prices
