"""Commands that explain and reckon: usage, forecast, explain, clock."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

from datetime import datetime, timedelta
from typing import Annotated

import typer

from creditgate.calls import planned
from creditgate_server.cli import options, tables
from creditgate_server.cli.options import AccountId
from creditgate_server.cli.server import Server, command

_PANEL = "What an account has, and what has happened"
_CLOCK_PANEL = "Server"


def usage(
    server: Server,
    account_id: AccountId,
    *,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=options.instant,
            metavar="INSTANT",
            help="Unless given, 30 days ago.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=options.instant,
            metavar="INSTANT",
            help="Unless given, now.",
            show_default=False,
        ),
    ] = None,
    action: Annotated[str, typer.Option(help="Only this action.", show_default=False)] = "",
    model: Annotated[str, typer.Option(help="Only this model.", show_default=False)] = "",
) -> None:
    """Add up what was charged, by day, action and model."""
    answer = server.client.get_usage(
        account_id, from_=since, until=until, action=action, model=model
    )
    server.show(answer, lambda: tables.usage(answer))


def forecast(
    server: Server,
    jobs: Annotated[
        list[str],
        typer.Argument(
            metavar="TIMES:ACTION[:MODEL]...",
            help="How often a month what is run, such as [cyan]660:image.generate:recraft-v3[/].",
        ),
    ],
    *,
    quantity: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=options.QUANTITY_MAX,
            metavar="N",
            help="Of the price's unit, in each job. Unless given, 1.",
            show_default=False,
        ),
    ] = None,
    setting: options.JobSettings = None,
    buffer: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="For variants and reruns. Unless given, 25.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Estimate what a month of jobs costs, and name the plans that cover it."""
    settings = options.settings_of(setting)
    wanted = [
        planned(times, action=action, model=model, quantity=quantity, settings=settings)
        for times, action, model in map(_planned, jobs)
    ]
    answer = server.client.forecast(wanted, buffer_percent=buffer)
    server.show(answer, lambda: tables.forecast(wanted, answer))


def _planned(text: str) -> tuple[int, str, str]:
    times, _, job = text.partition(":")
    action, _, model = job.partition(":")
    if not (times.isdecimal() and action):
        example = "660:image.generate:recraft-v3"
        raise typer.BadParameter(f"{text!r} is not TIMES:ACTION[:MODEL], such as {example}")
    return int(times), action, model


def explain(server: Server, account_id: AccountId) -> None:
    """Tell in sentences why a balance is what it is, and why the last request was denied."""
    answer = server.client.explain(account_id)
    server.show(answer, lambda: tables.explained(answer))


def clock(
    server: Server,
    *,
    advance: Annotated[
        timedelta | None,
        typer.Option(
            parser=options.duration,
            metavar="DURATION",
            help="Move it forward by so much: 90s, 10m, 720h.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=options.instant,
            metavar="INSTANT",
            help="Move it forward to this moment.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the time that accounts live by, or move it forward. Only in developer mode."""
    if advance is not None and until is not None:
        raise typer.BadParameter("give --advance or --until, not both")
    if advance is None and until is None:
        found = server.client.get_time()
        server.show(found, lambda: tables.time(found.now))
        return
    moved = server.client.advance(by=advance, until=until)
    server.show(moved, lambda: tables.time(moved.now))


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate usage acct-1",
            "creditgate usage acct-1 --from 2030-01-01T00:00Z --action video.generate",
        ),
    )(usage)
    command(
        app,
        panel=_PANEL,
        example=(
            "creditgate forecast 660:image.generate:recraft-v3 220:upscale.creative",
            "creditgate forecast 100:image.generate:recraft-v3 --buffer 30",
        ),
    )(forecast)
    command(app, panel=_PANEL, example=("creditgate explain acct-1",))(explain)
    command(
        app,
        panel=_CLOCK_PANEL,
        example=("creditgate clock", "creditgate clock --advance 720h"),
    )(clock)
