"""Commands for billing: account, grant, void."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

from datetime import datetime
from typing import Annotated

import typer

from creditgate_server.cli import options, tables
from creditgate_server.cli.options import AccountId, BucketId, KindName
from creditgate_server.cli.server import Server, command

_PANEL = "Accounts"


def put(
    server: Server,
    account_id: AccountId,
    *,
    zone: Annotated[
        str,
        typer.Option(
            metavar="ZONE",
            help="IANA time zone by which its buckets turn. Unless given, UTC or as it is.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Create an account, or change the time zone of one that exists."""
    answer = server.client.put_account(account_id, zone=zone)
    server.show(answer, lambda: tables.account(answer.account))


def show(server: Server, account_id: AccountId) -> None:
    """Show an account: its subscription, what it has, and what will happen by itself."""
    answer = server.client.get_account(account_id)
    server.show(answer, lambda: tables.account(answer.account))


def grant(
    server: Server,
    account_id: AccountId,
    source_ref: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="Your unique reference, such as the payment's id; it names the bucket.",
        ),
    ],
    *,
    kind: Annotated[KindName, typer.Option(help="What sort of credits.")],
    amount: Annotated[
        int, typer.Option(min=1, max=options.AMOUNT_MAX, metavar="N", help="How many.")
    ],
    ends: Annotated[
        datetime | None,
        typer.Option(
            parser=options.instant,
            metavar="INSTANT",
            help="When what is left expires, in ISO 8601. Unless given, never.",
            show_default=False,
        ),
    ] = None,
    for_action: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION", help="Pays only this; repeat it.", show_default=False),
    ] = None,
    for_model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Pays only this; repeat it.", show_default=False),
    ] = None,
) -> None:
    """Put credits on an account, as a bucket of their own.

    The reference makes it safe to send again: what was granted once is not granted twice.
    """
    answer = server.client.grant_credits(
        account_id,
        source_ref,
        kind=kind,
        amount=amount,
        ends_at=ends,
        actions=for_action or (),
        models=for_model or (),
    )
    server.show(answer, lambda: tables.granted(answer))


def void(server: Server, account_id: AccountId, bucket_id: BucketId) -> None:
    """Take back what is available in a bucket. What is held in it follows when it comes back."""
    answer = server.client.void_bucket(account_id, bucket_id)
    server.show(answer, lambda: tables.voided(answer))


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    account = typer.Typer(no_args_is_help=True, help="Create an account, or show one.")
    command(
        account,
        panel=None,
        example=(
            "creditgate account put acct-1",
            "creditgate account put acct-1 --zone Europe/Berlin",
        ),
    )(put)
    command(account, panel=None, example=("creditgate account show acct-1",))(show)
    app.add_typer(account, name="account", rich_help_panel=_PANEL)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate grant acct-1 payment-4711 --kind top_up --amount 200",
            "creditgate grant acct-1 plan-7 --kind free --amount 50 --ends 2030-02-01T00:00Z",
        ),
    )(grant)
    command(app, panel=_PANEL, example=("creditgate void acct-1 payment-4711",))(void)
