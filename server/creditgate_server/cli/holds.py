"""Commands for jobs: quote, authorize, extend, settle, refund, charge."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

from typing import Annotated, Literal

import typer

from creditgate.v1.resources_pb2 import DECISION_APPROVED
from creditgate_server.cli import options, tables
from creditgate_server.cli.options import (
    AccountId,
    Action,
    Amount,
    HoldId,
    JobId,
    JobQuantity,
    JobSettings,
    MaxAmount,
    Member,
    Model,
    Operation,
    Quantity,
    Ttl,
)
from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.server import Server, command

_PANEL = "Jobs"


def quote(
    server: Server,
    account_id: AccountId,
    *,
    action: Action,
    model: Model = "",
    quantity: JobQuantity = None,
    setting: JobSettings = None,
) -> None:
    """Tell the exact price of a job, and whether the account could pay it.

    Nothing is set aside. Exit code 3 says that it could not.
    """
    answer = server.client.quote(
        account_id,
        action=action,
        model=model,
        quantity=quantity,
        settings=options.settings_of(setting),
    )
    server.show(answer, lambda: tables.quote(answer))
    _exit_as_decided(answer)


def authorize(
    server: Server,
    account_id: AccountId,
    hold_id: JobId,
    *,
    action: Action,
    model: Model = "",
    quantity: JobQuantity = None,
    setting: JobSettings = None,
    ttl: Ttl = None,
    max_amount: MaxAmount = None,
    member: Member = "",
) -> None:
    """Set the price of a job aside before it runs.

    Run the job if it is approved (exit code 0), and do not if it is denied (3). What is held
    returns by itself when its time is over. The same id with the same content may be sent again: it
    holds once.
    """
    answer = server.client.authorize(
        account_id,
        hold_id,
        action=action,
        model=model,
        quantity=quantity,
        settings=options.settings_of(setting),
        ttl=ttl,
        max_amount=max_amount,
        member_id=member,
    )
    server.show(answer, lambda: tables.placed(answer, "authorized"))
    _exit_as_decided(answer)


def extend(
    server: Server,
    account_id: AccountId,
    hold_id: HoldId,
    *,
    ttl: Ttl = None,
    amount: Amount = None,
    quantity: Quantity = None,
) -> None:
    """Give a hold more time, and raise it if a new total is given.

    A raise that the account cannot pay is denied (exit code 3), and then nothing has changed.
    """
    options.not_both(amount=amount, quantity=quantity)
    answer = server.client.extend(account_id, hold_id, ttl=ttl, amount=amount, quantity=quantity)
    server.show(answer, lambda: tables.extended(answer))
    _exit_as_decided(answer)


def settle(
    server: Server,
    account_id: AccountId,
    hold_id: HoldId,
    *,
    quantity: Quantity = None,
    amount: Amount = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="More settles follow: keep the rest held.")
    ] = False,
    operation: Operation = "",
) -> None:
    """Take what was delivered, and return the rest of the hold.

    Say what was delivered as --quantity, such as 3 images of 4, or as --amount in credits. Without
    either, all that is held is taken.
    """
    options.not_both(quantity=quantity, amount=amount)
    if partial and not operation:
        raise typer.BadParameter("--partial needs an --operation, one for each part")
    answer = server.client.settle(
        account_id,
        hold_id,
        amount=amount,
        quantity=quantity,
        partial=partial,
        operation_id=operation,
    )
    server.show(answer, lambda: tables.settled(answer))


def refund(
    server: Server,
    account_id: AccountId,
    hold_id: HoldId,
    *,
    amount: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=options.AMOUNT_MAX,
            metavar="N",
            help="Of a settled hold only so much, in credits; needs --operation.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        Literal["failed", "cancelled"],
        typer.Option(help="Failed: we did not deliver. Cancelled: it was not wanted any more."),
    ] = "failed",
    operation: Operation = "",
) -> None:
    """Give back: all that an open hold has set aside, or what a settled one has taken."""
    if amount is not None and not operation:
        raise typer.BadParameter("--amount needs an --operation, one for each part")
    answer = server.client.refund(
        account_id, hold_id, amount=amount, reason=reason, operation_id=operation
    )
    server.show(answer, lambda: tables.refunded(answer))


def charge(
    server: Server,
    account_id: AccountId,
    hold_id: JobId,
    *,
    action: Action,
    model: Model = "",
    quantity: JobQuantity = None,
    setting: JobSettings = None,
    max_amount: MaxAmount = None,
    member: Member = "",
) -> None:
    """Authorize and settle in one, for jobs that are over at once."""
    answer = server.client.charge(
        account_id,
        hold_id,
        action=action,
        model=model,
        quantity=quantity,
        settings=options.settings_of(setting),
        max_amount=max_amount,
        member_id=member,
    )
    server.show(answer, lambda: tables.placed(answer, "charged"))
    _exit_as_decided(answer)


def _exit_as_decided(answer: tables.Decided) -> None:
    if answer.decision != DECISION_APPROVED:
        raise typer.Exit(ExitCode.DENIED)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    four = "--action image.generate --model recraft-v3 --quantity 4"
    video = "--action video.generate --model video-studio --quantity 5 --setting resolution=1080p"
    command(app, panel=_PANEL, example=(f"creditgate quote acct-1 {video}",))(quote)
    command(
        app,
        panel=_PANEL,
        example=(
            f"creditgate authorize acct-1 job-1 {four} --ttl 10m",
            f"creditgate authorize acct-1 job-2 {video}",
        ),
    )(authorize)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate extend acct-1 job-1 --ttl 30m",
            "creditgate extend acct-1 job-1 --quantity 6",
        ),
    )(extend)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate settle acct-1 job-1",
            "creditgate settle acct-1 job-1 --quantity 3",
            "creditgate settle acct-1 job-1 --quantity 1 --partial --operation image-1",
        ),
    )(settle)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate refund acct-1 job-1",
            "creditgate refund acct-1 job-2 --amount 5 --operation complaint-7",
        ),
    )(refund)
    command(app, panel=_PANEL, example=(f"creditgate charge acct-1 job-3 {four}",))(charge)
