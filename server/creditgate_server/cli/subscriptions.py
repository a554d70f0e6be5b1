"""Commands for subscriptions: what a billing system tells of plans, seats, packs and add-ons."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

from datetime import datetime
from typing import Annotated, Literal

import typer

from creditgate.v1.resources_pb2 import DECISION_APPROVED
from creditgate_server.cli import options, tables
from creditgate_server.cli.options import AccountId
from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.server import Server, command

_PANEL = "Subscriptions"
_SEATS_MAX = 1_000_000

_Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="Your unique reference of this event, such as an invoice's id; sent again, it "
        "changes nothing more.",
    ),
]
_Occurred = Annotated[
    datetime | None,
    typer.Option(
        parser=options.instant,
        metavar="INSTANT",
        help="When it happened, by the billing system's clock. Unless given, now.",
        show_default=False,
    ),
]
_When = Annotated[
    Literal["now", "period-end"] | None,
    typer.Option(
        "--when",
        help="When it takes effect. Unless given, what gives more counts now, the rest later.",
        show_default=False,
    ),
]


def subscribe(
    server: Server,
    account_id: AccountId,
    reference: _Reference,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A plan of the catalog.")],
    *,
    seats: Annotated[int, typer.Option(min=1, max=_SEATS_MAX, metavar="N", help="How many.")] = 1,
    anchor: Annotated[
        datetime | None,
        typer.Option(
            parser=options.instant,
            metavar="INSTANT",
            help="From when its periods are counted. Unless given, now.",
            show_default=False,
        ),
    ] = None,
    paid_through: Annotated[
        datetime | None,
        typer.Option(
            parser=options.instant,
            metavar="INSTANT",
            help="It ends then unless it is paid on. Unless given, it runs until it is cancelled.",
            show_default=False,
        ),
    ] = None,
    allowance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GRANT=N",
            help="What a contract gives in place of the catalog's grant; repeat it.",
            show_default=False,
        ),
    ] = None,
    occurred: _Occurred = None,
) -> None:
    """Put an account on a plan, or tell that its subscription is paid on."""
    answer = server.client.subscribe(
        account_id,
        reference,
        plan,
        seats=seats,
        anchor=anchor,
        paid_through=paid_through,
        allowances=dict(map(_allowance, allowance or ())),
        occurred_at=occurred,
    )
    server.show(answer, lambda: tables.event(answer.effect, answer.account))


def change_plan(
    server: Server,
    account_id: AccountId,
    reference: _Reference,
    *,
    plan: Annotated[
        str, typer.Option(help="A plan of the catalog. Unless given, the same.", show_default=False)
    ] = "",
    seats: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_SEATS_MAX,
            metavar="N",
            help="Unless given, as many as now.",
            show_default=False,
        ),
    ] = None,
    when: _When = None,
    occurred: _Occurred = None,
) -> None:
    """Change the plan or the seats of a subscription."""
    if not plan and seats is None:
        raise typer.BadParameter("give --plan, --seats or both")
    answer = server.client.change_plan(
        account_id,
        reference,
        plan_id=plan,
        seats=0 if seats is None else seats,
        when=_when(when),
        occurred_at=occurred,
    )
    server.show(answer, lambda: tables.event(answer.effect, answer.account))


def cancel(
    server: Server,
    account_id: AccountId,
    reference: _Reference,
    *,
    when: _When = None,
    occurred: _Occurred = None,
) -> None:
    """End a subscription: at the end of its period, or now."""
    answer = server.client.cancel_subscription(
        account_id, reference, when=_when(when), occurred_at=occurred
    )
    server.show(answer, lambda: tables.event(answer.effect, answer.account))


def buy(
    server: Server,
    account_id: AccountId,
    payment_ref: Annotated[
        str,
        typer.Argument(metavar="PAYMENT", help="The payment's id; it names the bucket."),
    ],
    pack: Annotated[
        int,
        typer.Argument(
            min=1, max=options.AMOUNT_MAX, metavar="PACK", help="A pack of the catalog."
        ),
    ],
) -> None:
    """Sell a pack of the catalog, if the account may buy one."""
    answer = server.client.purchase_top_up(account_id, payment_ref, pack)
    server.show(answer, lambda: tables.bought(answer))
    if answer.decision != DECISION_APPROVED:
        raise typer.Exit(ExitCode.DENIED)


def add_ons(
    server: Server,
    account_id: AccountId,
    reference: _Reference,
    add_on: Annotated[str, typer.Argument(metavar="ADD-ON", help="An add-on of the catalog.")],
    units: Annotated[
        int, typer.Argument(min=0, max=_SEATS_MAX, metavar="UNITS", help="How many in all.")
    ],
    *,
    occurred: _Occurred = None,
) -> None:
    """Set the units of an add-on: more count now, fewer from the next period on."""
    answer = server.client.set_add_ons(account_id, reference, add_on, units, occurred_at=occurred)
    server.show(answer, lambda: tables.event(answer.effect, answer.account))


def member_limit(
    server: Server,
    account_id: AccountId,
    *,
    member: Annotated[
        str,
        typer.Option(
            help="Unless given, each member that has no limit of its own.", show_default=False
        ),
    ] = "",
    amount: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=options.AMOUNT_MAX,
            metavar="N",
            help="Held and spent in a period. Unless given, there is no limit.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Limit what a member, or each member, may draw in a period of the plan."""
    answer = server.client.set_member_limit(account_id, member_id=member, amount=amount)
    server.show(answer, lambda: tables.limited(member, amount, answer.used))


def freeze(server: Server, account_id: AccountId) -> None:
    """Deny new holds of an account. Open ones finish."""
    answer = server.client.freeze(account_id)
    server.show(answer, lambda: tables.account(answer.account))


def unfreeze(server: Server, account_id: AccountId) -> None:
    """Allow new holds of an account again."""
    answer = server.client.unfreeze(account_id)
    server.show(answer, lambda: tables.account(answer.account))


def _when(given: str | None) -> str:
    return "UNSPECIFIED" if given is None else given.upper().replace("-", "_")


def _allowance(text: str) -> tuple[str, int]:
    name, _, amount = text.partition("=")
    if not (name and amount.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not GRANT=N, such as base=5000")
    return name, int(amount)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate subscribe acct-1 invoice-1 basic",
            "creditgate subscribe acct-1 invoice-2 team --seats 3 --paid-through 2030-02-28T10:00Z",
        ),
    )(subscribe)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate change-plan acct-1 order-7 --plan pro",
            "creditgate change-plan acct-1 order-8 --seats 2 --when period-end",
        ),
    )(change_plan)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate cancel acct-1 order-9",
            "creditgate cancel acct-1 order-9 --when now",
        ),
    )(cancel)
    command(app, panel=_PANEL, example=("creditgate buy acct-1 payment-4711 200",))(buy)
    command(app, panel=_PANEL, example=("creditgate add-ons acct-1 order-10 unit 2",))(add_ons)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate member-limit acct-1 --member ben --amount 500",
            "creditgate member-limit acct-1 --amount 100",
        ),
    )(member_limit)
    command(app, panel=_PANEL, example=("creditgate freeze acct-1",))(freeze)
    command(app, panel=_PANEL, example=("creditgate unfreeze acct-1",))(unfreeze)
