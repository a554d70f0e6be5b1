"""Commands that a billing system, or somebody in its place, types."""

import pytest

from creditgate_server.cli.output import ExitCode
from tests.cli.shell import Shop

A = "acct-1"
DRAW = ("--action", "draw")


@pytest.fixture(autouse=True)
def _opened(shop: Shop) -> None:
    shop.run("account", "put", A)


def test_a_subscription_is_shown_with_what_will_happen_by_itself(shop: Shop) -> None:
    said = shop.text("subscribe", A, "invoice-1", "team", "--seats", "3")
    assert said.startswith("applied\n")
    assert "plan team, 3 seats" in said
    assert "base begins anew with 300" in said
    shown = shop.json("account", "show", A)["account"]
    assert (shown["subscription"]["plan_id"], shown["subscription"]["seats"]) == ("team", "3")
    events = [item["event"] for item in shown["upcoming"]]
    assert events == ["EVENT_RESET", "EVENT_RESET"]
    assert shown["totals"]["available"] == "310"


def test_an_event_sent_again_is_applied_once_and_an_older_one_not_at_all(shop: Shop) -> None:
    words = ("subscribe", A, "invoice-1", "team")
    shop.run(*words)
    assert "applied before; nothing happened twice" in shop.text(*words)
    assert shop.fault(*words, "--seats", "2")["reason"] == "ID_REUSED"
    late = ("cancel", A, "order-1", "--when", "now", "--occurred", "2020-01-01T00:00Z")
    assert "superseded" in shop.text(*late)
    assert shop.json("cancel", A, "order-2", *late[3:])["effect"] == "EFFECT_SUPERSEDED"


def test_a_plan_is_changed_now_or_later(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team")
    assert "plan pro" in shop.text("change-plan", A, "order-1", "--plan", "pro")
    assert shop.json("balance", A)["totals"]["available"] == "1010"
    said = shop.text("change-plan", A, "order-2", "--plan", "team", "--seats", "2")
    assert "the plan or its seats change: team" in said
    now = shop.json("change-plan", A, "order-3", "--seats", "2", "--when", "now")
    assert now["account"]["totals"]["available"] == "2010"
    both = shop.run("change-plan", A, "order-4", code=ExitCode.USAGE).output
    assert "give --plan, --seats or both" in both


def test_a_cancelled_subscription_ends_later_or_now(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team", "--paid-through", "2099-01-01T00:00Z")
    assert "paid through 2099-01-01 00:00:00 UTC" in shop.text("account", "show", A)
    assert "the subscription ends: free" in shop.text("cancel", A, "order-1")
    assert "plan free" in shop.text("cancel", A, "order-2", "--when", "now")
    assert shop.fault("cancel", A, "order-3")["reason"] == "NOT_SUBSCRIBED"


def test_a_pack_is_sold_to_those_who_may_buy(shop: Shop) -> None:
    denied = shop.text("buy", A, "payment-1", "200", code=ExitCode.DENIED)
    assert "denied plan required" in denied
    assert "give the money back" in denied
    assert "change to the plan team or pro" in denied
    shop.run("subscribe", A, "invoice-1", "team")
    assert "200 bought" in shop.text("buy", A, "payment-1", "200")
    assert "granted before; nothing was added" in shop.text("buy", A, "payment-1", "200")
    assert shop.fault("buy", A, "payment-2", "201")["reason"] == "PACK_NOT_FOUND"
    hint = shop.run("buy", A, "payment-2", "201", code=ExitCode.FAULT).stderr
    assert "`creditgate catalog show` lists the packs" in hint


def test_what_is_frozen_is_shown_and_not_counted(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team")
    shop.run("buy", A, "payment-1", "200")
    shop.run("cancel", A, "order-1", "--when", "now")
    said = shop.text("balance", A)
    assert "10 credits available" in said
    assert "payment-1 top-up 200 200 0 0" in said
    assert "frozen" in said
    assert "payment-1 cannot be spent for now" in shop.text("ledger", A)
    assert "every credit is accounted for" in shop.text("audit", A)
    shop.run("subscribe", A, "invoice-2", "team")
    assert "payment-1 can be spent again" in shop.text("ledger", A)
    assert "every credit is accounted for" in shop.text("audit", A)


def test_add_ons_are_set_in_all_and_fewer_count_later(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team")
    assert "add-on more 2" in shop.text("add-ons", A, "order-1", "more", "2")
    said = shop.text("add-ons", A, "order-2", "more", "1")
    assert "add-on more 2, 1 from the next period" in said
    assert shop.fault("add-ons", A, "order-3", "less", "1")["reason"] == "ADD_ON_NOT_FOUND"


def test_a_member_draws_what_the_limit_leaves(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team")
    said = shop.text("member-limit", A, "--member", "ben", "--amount", "6")
    assert said == "ben: at most 6 in a period\n0 drawn in this one"
    ben = (*DRAW, "--member", "ben", "--quantity")
    assert "approved" in shop.text("charge", A, "job-1", *ben, "3")
    assert "member limit" in shop.text("charge", A, "job-2", *ben, "1", code=ExitCode.DENIED)
    assert shop.json("member-limit", A, "--member", "ben", "--amount", "8")["used"] == "6"
    assert "no limit" in shop.text("member-limit", A, "--member", "ben")


def test_a_frozen_account_is_denied_and_says_so(shop: Shop) -> None:
    assert "acct-1, frozen: new holds are denied" in shop.text("freeze", A)
    assert "account frozen" in shop.text("charge", A, "job-1", *DRAW, code=ExitCode.DENIED)
    assert "frozen" not in shop.text("unfreeze", A)
    assert "approved" in shop.text("charge", A, "job-1", *DRAW)


def test_a_contract_gives_its_own_allowance(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team", "--allowance", "base=70")
    assert shop.json("balance", A)["totals"]["available"] == "80"
    wrong = shop.run("subscribe", A, "i-2", "team", "--allowance", "base", code=ExitCode.USAGE)
    assert "is not GRANT=N" in wrong.output


def test_a_plan_that_is_not_there_is_a_fault_with_a_hint(shop: Shop) -> None:
    assert shop.fault("subscribe", A, "invoice-1", "gold")["reason"] == "PLAN_NOT_FOUND"
    said = shop.run("subscribe", A, "invoice-1", "gold", code=ExitCode.FAULT).stderr
    assert "`creditgate catalog show` lists the plans" in said


def test_a_balance_says_the_plan_the_zone_and_what_begins_anew(shop: Shop) -> None:
    shop.run("subscribe", A, "invoice-1", "team")
    said = shop.text("balance", A)
    assert "plan team; buckets turn by the days of UTC" in said
    assert said.count(", then anew") == 2
