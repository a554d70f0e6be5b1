"""Commands that look, and those for accounts."""

from tests.cli.shell import IMAGES, VIDEO, Shell


def test_a_balance_has_a_line_for_each_bucket_and_one_for_all(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *VIDEO, "--quantity", "6")
    shell.run("settle", account, "job", "--amount", "21")
    shell.run("authorize", account, "next", *IMAGES, "--quantity", "9")
    said = shell.text("balance", account)
    assert "190 credits available, 9 held by 1 open hold" in said
    assert "pack top-up 200 190 9 1 never" in said
    assert "plan subscription 20 0 0 20 2099-01-30 23:00" in said
    assert "all 220 190 9 21" in said
    assert "voided" not in said


def test_a_balance_counts_what_may_pay_an_action(shell: Shell, account: str) -> None:
    only = ("--for-action", "mockup.create", "--for-model", "m-1", "--for-model", "m-2")
    shell.run("grant", account, "gift", "--kind", "promotional", "--amount", "5", *only)
    answer = shell.json("balance", account, "--action", "image.generate")
    assert (answer["payable"], answer["totals"]["available"]) == ("220", "225")
    said = shell.text("balance", account, "--action", "image.generate")
    assert "220 of them may pay what was asked about" in said
    buckets = {bucket["bucket_id"]: bucket for bucket in answer["buckets"]}
    assert buckets["gift"]["actions"] == ["mockup.create"]
    assert buckets["gift"]["models"] == ["m-1", "m-2"]


def test_amounts_have_their_thousands_apart(shell: Shell, account: str) -> None:
    said = shell.text("grant", account, "big", "--kind", "top_up", "--amount", "1234567")
    assert "1,234,567 granted" in said
    again = shell.text("grant", account, "big", "--kind", "top_up", "--amount", "1234567")
    assert "granted before; nothing was added" in again


def test_a_ledger_tells_its_moves_in_words_the_latest_last(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *VIDEO, "--quantity", "6")
    shell.run("settle", account, "job", "--quantity", "5")
    lines = shell.text("ledger", account).splitlines()
    entries = [line for line in lines if line[:1].isdigit()]
    assert [line.split()[0] for line in entries[:3]] == ["1", "2", "3"]
    said = "\n".join(lines)
    assert "20 put into plan" in said
    assert "20 set aside from plan" in said
    assert "4 set aside from pack" in said
    assert "20 taken from plan" in said
    assert "4 returned to pack" in said


def test_a_ledger_shows_the_latest_or_all(shell: Shell, account: str) -> None:
    for number in range(4):
        shell.run("charge", account, f"job-{number}", *IMAGES)
    latest = shell.json("ledger", account, "-n", "2")["entries"]
    assert [entry["seq"] for entry in latest] == ["6", "5"]
    assert latest[0]["verb"] == "LEDGER_VERB_CHARGE"
    everything = shell.json("ledger", account, "--all")
    assert [entry["seq"] for entry in everything["entries"]] == ["6", "5", "4", "3", "2", "1"]
    assert everything["next_page_token"] == ""


def test_a_hold_that_was_only_extended_says_so(shell: Shell, account: str) -> None:
    shell.run("authorize", account, "job", *IMAGES)
    shell.run("extend", account, "job", "--ttl", "1h")
    assert "extend job more time" in shell.text("ledger", account)


def test_open_holds_are_listed_by_their_deadline(shell: Shell, account: str) -> None:
    assert "no open holds" in shell.text("holds", account)
    shell.run("authorize", account, "late", *IMAGES, "--ttl", "2h")
    shell.run("authorize", account, "soon", *VIDEO, "--quantity", "2", "--ttl", "1h")
    said = shell.text("holds", account)
    assert said.index("soon") < said.index("late")
    assert "soon video.generate with video-studio, quantity 2 8 0" in said
    assert len(shell.json("holds", account)["holds"]) == 2


def test_one_hold_shows_how_it_stands(shell: Shell, account: str) -> None:
    member = ("--member", "ben")
    shell.run("authorize", account, "job", *IMAGES, "--quantity", "4", *member)
    shell.run("settle", account, "job", "--quantity", "3")
    said = shell.text("hold", account, "job")
    assert "state settled" in said
    assert "member ben" in said
    assert "plan subscription 4 0 3 1 0" in said
    fault = shell.fault("hold", account, "none")
    assert fault["reason"] == "HOLD_NOT_FOUND"


def test_an_account_is_put_and_shown(shell: Shell) -> None:
    assert shell.json("account", "put", "berlin", "--zone", "Europe/Berlin")["created"] is True
    said = shell.text("account", "show", "berlin")
    assert "zone Europe/Berlin" in said
    assert "available 0" in said
    assert "no buckets yet" in shell.text("balance", "berlin")
    assert shell.fault("account", "put", "x", "--zone", "Mars")["error"] == "InvalidRequest"


def test_a_bucket_can_be_voided(shell: Shell, account: str) -> None:
    said = shell.text("void", account, "pack")
    assert "voided pack" in said
    assert "pack top-up 200 0 0 0 200 ended" in said
    assert shell.fault("void", account, "none")["reason"] == "BUCKET_NOT_FOUND"
