"""The audit finds nothing where all is well, and every single wrong figure."""

from collections.abc import Callable

import pytest
import redis

import creditgate
from creditgate.v1 import resources_pb2 as pb
from creditgate.v1.credits_pb2 import GetBalanceResponse
from creditgate.v1.resources_pb2 import LedgerEntry
from creditgate_server.cli.audits import audit, audit_account
from creditgate_server.cli.output import ExitCode
from tests.cli.shell import IMAGES, VIDEO, Shell

Entries = list[LedgerEntry]
Books = tuple[GetBalanceResponse, Entries]


@pytest.fixture
def busy(shell: Shell, account: str) -> str:
    """An account to which all sorts of things have happened."""
    shell.run("authorize", account, "a", *VIDEO, "--quantity", "6")
    shell.run("settle", account, "a", "--amount", "3", "--partial", "--operation", "1")
    shell.run("extend", account, "a", "--amount", "30")
    shell.run("settle", account, "a", "--quantity", "5")
    shell.run("refund", account, "a", "--amount", "7", "--operation", "2")
    shell.run("authorize", account, "b", *IMAGES, "--quantity", "9")
    shell.run("authorize", account, "c", *VIDEO, "--quantity", "10")
    shell.run("void", account, "plan")
    shell.run("refund", account, "c")
    shell.run("grant", account, "gift", "--kind", "promotional", "--amount", "11")
    shell.run("charge", account, "d", *IMAGES, "--quantity", "2")
    return account


@pytest.fixture
def books(shell: Shell, busy: str) -> Books:
    with creditgate.Client(shell.address) as client:
        return client.get_balance(busy), list(client.ledger(busy))


def test_an_account_that_is_well_adds_up(shell: Shell, busy: str) -> None:
    said = shell.text("audit", busy)
    assert "every credit is accounted for: 231 granted = " in said
    found = shell.json("audit", busy)
    assert found["ok"] is True
    assert found["problems"] == []
    sums = found["sums"]
    assert sums["granted"] == 231
    parts = ("available", "held", "spent", "expired", "voided")
    assert sum(sums[part] for part in parts) == 231
    assert [each["bucket_id"] for each in found["buckets"]] == ["gift", "pack", "plan"]


def test_an_account_without_changes_adds_up(shell: Shell) -> None:
    shell.run("account", "put", "empty")
    assert "0 granted = 0 available" in shell.text("audit", "empty")


def test_an_audit_of_no_account_is_a_fault(shell: Shell) -> None:
    assert shell.fault("audit", "nobody")["reason"] == "ACCOUNT_NOT_FOUND"


def test_a_figure_changed_in_the_store_is_found(shell: Shell, busy: str, store: str) -> None:
    with redis.Redis.from_url(store) as behind:
        (key,) = (
            key
            for key in behind.scan_iter(f"*{busy}*", _type="hash")
            if behind.hexists(key, "b:pack")
        )
        row = behind.hget(key, "b:pack")
        assert isinstance(row, bytes)
        words = row.split(b" ")
        words[2] = b"%d" % (int(words[2]) + 1)
        behind.hset(key, "b:pack", b" ".join(words))
    said = shell.text("audit", busy, code=ExitCode.FAULT)
    assert "but its moves give" in said
    assert f"the credits of {busy} do not add up" in said
    found = shell.json("audit", busy, code=ExitCode.FAULT)
    assert found["ok"] is False


def _more(figure: str) -> Callable[[GetBalanceResponse, Entries], None]:
    def change(balance: GetBalanceResponse, _entries: Entries) -> None:
        setattr(balance.buckets[0], figure, getattr(balance.buckets[0], figure) + 1)

    return change


def _moved_on(balance: GetBalanceResponse, _entries: Entries) -> None:
    # One more spent and one less available: the parts still make the whole.
    balance.buckets[0].spent += 1
    balance.buckets[0].available -= 1


def _lost_entry(_balance: GetBalanceResponse, entries: Entries) -> None:
    del entries[3]


def _lost_beginning(_balance: GetBalanceResponse, entries: Entries) -> None:
    del entries[-1]


def _lost_end(_balance: GetBalanceResponse, entries: Entries) -> None:
    del entries[0]


def _lost_all(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries.clear()


def _other_amount(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries[-1].moves[0].amount += 1


def _other_bucket(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries[-1].moves[0].bucket_id = "pack"


def _other_period(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries[-1].moves[0].period = 1


def _other_after(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries[4].held_after += 1


def _other_debt(_balance: GetBalanceResponse, entries: Entries) -> None:
    entries[4].debt_change += 1


def _other_total(balance: GetBalanceResponse, _entries: Entries) -> None:
    balance.totals.available += 1


def _no_bucket(balance: GetBalanceResponse, _entries: Entries) -> None:
    del balance.buckets[0]


def _strange_bucket(balance: GetBalanceResponse, _entries: Entries) -> None:
    balance.buckets.add(bucket_id="strange", granted=1, available=1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        *(
            (_more(figure), f" {figure}, but its moves give ")
            for figure in ("granted", "available", "held", "spent", "expired", "voided")
        ),
        (_moved_on, "spent, but its moves give"),
        (_lost_entry, "is missing"),
        (_lost_beginning, "entries 1 to 1 are missing"),
        (_lost_end, "is missing"),
        (_lost_all, "are missing"),
        (_other_amount, "plan"),
        (_other_bucket, "plan"),
        (_other_period, "plan (period 1)"),
        (_other_after, "leaves held at"),
        (_other_debt, "debt"),
        (_other_total, "leaves available at"),
        (_no_bucket, "is not there, but its moves leave"),
        (_strange_bucket, "strange has 1 granted, but its moves give 0"),
    ],
)
def test_whatever_is_changed_in_the_books_is_found(
    books: Books, change: Callable[[GetBalanceResponse, Entries], None], problem: str
) -> None:
    balance, entries = books
    assert not audit(balance, entries).problems
    change(balance, entries)
    assert any(problem in found for found in audit(balance, entries).problems)


def test_a_bucket_forgotten_with_nothing_in_it_is_no_problem(shell: Shell, busy: str) -> None:
    shell.run("void", busy, "gift")
    with creditgate.Client(shell.address) as client:
        balance, entries = client.get_balance(busy), list(client.ledger(busy))
    kept = [bucket for bucket in balance.buckets if bucket.bucket_id != "gift"]
    assert len(kept) == 2
    del balance.buckets[:]
    balance.buckets.extend(kept)
    assert not audit(balance, entries).problems


def test_changes_made_meanwhile_do_not_disturb(
    shell: Shell, busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with creditgate.Client(shell.address) as client:
        asked = client.get_balance

        def then_change(account_id: str) -> GetBalanceResponse:
            balance = asked(account_id)
            client.charge(account_id, "meanwhile", action="mockup.create")
            return balance

        monkeypatch.setattr(client, "get_balance", then_change)
        assert not audit_account(client, busy).problems


@pytest.mark.parametrize(("available", "ok"), [(0, True), (200, False)])
def test_what_is_frozen_counts_in_no_total(available: int, *, ok: bool) -> None:
    granted = pb.Move(bucket_id="pack", to=pb.FIGURE_AVAILABLE, amount=200)
    setattr(granted, "from", pb.FIGURE_GRANTED)
    bought = pb.LedgerEntry(
        seq=1, verb=pb.LEDGER_VERB_GRANT, moves=[granted], available_after=200, bucket_id="pack"
    )
    frozen = pb.LedgerEntry(
        seq=2, verb=pb.LEDGER_VERB_FREEZE_BUCKET, available_after=available, bucket_id="pack"
    )
    balance = GetBalanceResponse(
        totals=pb.Totals(account_id="a", seq=2, available=available),
        buckets=[pb.Bucket(bucket_id="pack", granted=200, available=200, frozen=True)],
    )
    assert (not audit(balance, [frozen, bought]).problems) is ok
