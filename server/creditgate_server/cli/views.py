"""Commands that look: balance, ledger, audit, holds, hold."""

from itertools import islice
from typing import Annotated

import typer

from creditgate.v1.accounts_pb2 import ListLedgerResponse
from creditgate.v1.credits_pb2 import ListHoldsResponse
from creditgate_server.cli import audits, tables
from creditgate_server.cli.options import AccountId, HoldId
from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.server import Server, command

_PANEL = "What an account has, and what has happened"


def balance(
    server: Server,
    account_id: AccountId,
    *,
    action: Annotated[
        str, typer.Option(help="Count what may pay this action.", show_default=False)
    ] = "",
    model: Annotated[
        str, typer.Option(help="Count what may pay this model.", show_default=False)
    ] = "",
) -> None:
    """Show what an account has, bucket by bucket, in the order in which they are drawn."""
    answer = server.client.get_balance(account_id, action=action, model=model)
    server.show(answer, lambda: tables.balance(answer))


def ledger(
    server: Server,
    account_id: AccountId,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The latest so many.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All, from the beginning.")] = False,
) -> None:
    """Show the changes of an account, and which credits each one moved.

    For people the latest stands at the end; in JSON it comes first.
    """
    entries = list(islice(server.client.ledger(account_id), None if everything else limit))
    server.show(ListLedgerResponse(entries=entries), lambda: tables.ledger(reversed(entries)))


def audit(server: Server, account_id: AccountId) -> None:
    """Check that every credit of an account is accounted for.

    Adds up the moves of the whole ledger and compares them with the balance, bucket by bucket.
    Exit code 1 if a single credit is missing.
    """
    found = audits.audit_account(server.client, account_id)
    server.show(audits.as_dict(found), lambda: audits.shown(found))
    if found.problems:
        raise typer.Exit(ExitCode.FAULT)


def holds(server: Server, account_id: AccountId) -> None:
    """List the open holds of an account, those that return first at the top."""
    found = list(server.client.holds(account_id))
    server.show(ListHoldsResponse(holds=found), lambda: tables.hold_list(found))


def hold(server: Server, account_id: AccountId, hold_id: HoldId) -> None:
    """Show one hold, open or ended, and where its credits came from."""
    answer = server.client.get_hold(account_id, hold_id)
    server.show(answer, lambda: tables.hold(answer.hold))


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate balance acct-1",
            "creditgate balance acct-1 --json | jq .totals.available",
        ),
    )(balance)
    command(
        app,
        panel=_PANEL,
        example=("creditgate ledger acct-1", "creditgate ledger acct-1 --all --json"),
    )(ledger)
    command(app, panel=_PANEL, example=("creditgate audit acct-1",))(audit)
    command(app, panel=_PANEL, example=("creditgate holds acct-1",))(holds)
    command(app, panel=_PANEL, example=("creditgate hold acct-1 job-1",))(hold)
