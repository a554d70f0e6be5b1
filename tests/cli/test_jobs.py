"""Commands for jobs: what they say to people and to programs, and how they exit."""

import pytest

from creditgate_server.cli.output import ExitCode
from tests.cli.shell import IMAGES, VIDEO, Shell


def test_a_quote_tells_the_price_and_takes_nothing(shell: Shell, account: str) -> None:
    said = shell.text("quote", account, *VIDEO, "--quantity", "5", "--setting", "resolution=1080p")
    assert "approved it costs 30" in said
    assert "price 6 per second" in said
    assert "may pay 220" in said
    assert shell.json("balance", account)["totals"]["available"] == "220"


def test_a_quote_that_cannot_be_paid_exits_as_denied(shell: Shell, account: str) -> None:
    answer = shell.json("quote", account, *VIDEO, "--quantity", "60", code=ExitCode.DENIED)
    assert answer["decision"] == "DECISION_DENIED"
    assert answer["amount"] == "240"


def test_an_approved_job_shows_where_its_credits_come_from(shell: Shell, account: str) -> None:
    said = shell.text("authorize", account, "job", *VIDEO, "--quantity", "10", "--ttl", "90s")
    assert "approved 40 authorized" in said
    assert "returns" in said
    assert "in 90 s" in said
    assert "plan subscription 20 20 0 0 0" in said
    assert "pack top-up 20 20 0 0 0" in said
    assert f"{account}: 180 available, 40 held" in said


def test_json_is_the_contract_with_its_own_names(shell: Shell, account: str) -> None:
    answer = shell.json("authorize", account, "job", *IMAGES, "--quantity", "4", "--ttl", "2h")
    assert answer["decision"] == "DECISION_APPROVED"
    assert answer["denial_reason"] == "DENIAL_REASON_UNSPECIFIED"
    assert answer["replayed"] is False
    assert answer["hold"]["hold_id"] == "job"
    assert answer["hold"]["slices"][0]["bucket_id"] == "plan"
    assert answer["totals"]["held"] == "4"


def test_a_denial_is_an_answer_with_what_helps(shell: Shell, account: str) -> None:
    words = ("authorize", account, "job", *VIDEO, "--quantity", "100")
    result = shell.run(*words, code=ExitCode.DENIED)
    assert not result.stderr
    said = " ".join(result.stdout.split())
    assert "denied insufficient credits" in said
    assert "the price is 400, 220 are available, 180 are missing" in said
    assert "helps: buy a pack of 200" in said
    answer = shell.json(*words, code=ExitCode.DENIED)
    assert answer["remedies"] == [{"top_up": {"allowed": True, "pack_amount": "200"}}]


def test_a_price_above_the_limit_is_denied(shell: Shell, account: str) -> None:
    words = ("authorize", account, "job", *IMAGES, "--quantity", "4", "--max-amount")
    shell.run(*words, "3", code=ExitCode.DENIED)
    shell.run(*words, "4")


def test_a_command_sent_again_says_so_and_takes_nothing(shell: Shell, account: str) -> None:
    words = ("authorize", account, "job", *IMAGES, "--quantity", "4")
    shell.run(*words)
    assert "this id was approved before" in shell.text(*words)
    assert shell.json("balance", account)["totals"]["held"] == "4"


def test_an_id_with_other_content_is_a_fault(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4")
    fault = shell.fault("authorize", account, "job", *IMAGES, "--quantity", "5")
    assert fault["error"] == "IdReused"
    assert fault["reason"] == "ID_REUSED"
    assert fault["outcome"] == "not-applied"
    assert fault["metadata"] == {"id": "job"}


def test_what_was_delivered_is_taken_and_the_rest_returns(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4")
    words = ("settle", account, "job", "--quantity", "3")
    assert "3 charged, 1 returned" in shell.text(*words)
    assert "(answered before; nothing happened twice)" in shell.text(*words)
    assert shell.json(*words)["charged"] == "3"


def test_a_job_can_be_settled_in_parts(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4")
    part = ("settle", account, "job", "--amount", "1", "--partial", "--operation", "first")
    assert "1 charged, 0 returned, 3 still held" in shell.text(*part)
    assert "3 charged, 0 returned" in shell.text("settle", account, "job")


def test_a_hold_can_be_extended_and_raised(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4")
    said = shell.text("extend", account, "job", "--ttl", "3h", "--quantity", "6")
    assert "approved 6 held; they return in 3 h" in said
    words = ("extend", account, "job", "--amount", "500")
    assert "denied insufficient credits" in shell.text(*words, code=ExitCode.DENIED)


def test_a_refund_gives_back_a_hold_or_a_part_of_a_charge(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4")
    assert "4 given back" in shell.text("refund", account, "job", "--reason", "cancelled")
    said = shell.text("charge", account, "other", *IMAGES, "--quantity", "4")
    assert "approved 4 charged" in said
    part = ("refund", account, "other", "--amount", "1", "--operation", "complaint")
    assert "1 given back" in shell.text(*part)
    assert shell.json("hold", account, "other")["hold"]["refunded"] == "1"


def test_a_charge_that_cannot_be_paid_is_denied(shell: Shell, account: str) -> None:
    shell.run("charge", account, "job", *VIDEO, "--quantity", "56", code=ExitCode.DENIED)
    shell.run("charge", account, "job", *VIDEO, "--quantity", "55")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("authorize", "a", "b"), "--action"),
        (("authorize", "a", "b", *IMAGES, "--ttl", "soon"), "no duration such as 90s"),
        (("authorize", "a", "b", *IMAGES, "--setting", "1080p"), "NAME=VALUE"),
        (("authorize", "a", "b", *IMAGES, "--quantity", "0"), "--quantity"),
        (("settle", "a", "b", "--quantity", "1", "--amount", "1"), "not both"),
        (("settle", "a", "b", "--partial"), "--operation"),
        (("extend", "a", "b", "--quantity", "1", "--amount", "1"), "not both"),
        (("refund", "a", "b", "--amount", "1"), "--operation"),
        (("refund", "a", "b", "--reason", "bored"), "--reason"),
        (("grant", "a", "b", "--kind", "compensation", "--amount", "1"), "--kind"),
        (("grant", "a", "b", "--kind", "free", "--amount", "0"), "--amount"),
        (("grant", "a", "b", "--kind", "free", "--amount", "1", "--ends", "2099-01-01"), "zone"),
        (("grant", "a", "b", "--kind", "free", "--amount", "1", "--ends", "May"), "ISO 8601"),
        (("balance", "a", "--timeout", "0s"), "--timeout"),
        (("balance",), "ACCOUNT"),
        (("nothing",), "nothing"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_asked(words: tuple[str, ...], message: str) -> None:
    # Nobody listens there.
    nowhere = Shell("127.0.0.1:1")
    assert message in nowhere.run(*words, code=ExitCode.USAGE).stderr


def test_a_fault_tells_people_what_to_do_next(shell: Shell) -> None:
    result = shell.run("balance", "nobody", code=ExitCode.FAULT)
    assert not result.stdout
    assert "error: " in result.stderr
    assert "hint:  creditgate account put nobody" in result.stderr


def test_a_server_that_is_not_there_has_an_exit_code_of_its_own(shell: Shell) -> None:
    words = ("balance", "a", "--address", "127.0.0.1:1", "--timeout", "0.2s")
    fault = shell.fault(*words, code=ExitCode.UNREACHABLE)
    assert fault["error"] == "Unavailable"
    assert fault["outcome"] == "not-applied"
    said = shell.run(*words, code=ExitCode.UNREACHABLE).stderr
    assert "is a server listening at 127.0.0.1:1?" in said
