"""The command `simulate`: what an account on a plan lives through, without waiting for it."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Group, RenderableType

from creditgate.v1 import resources_pb2 as pb
from creditgate_server.cli import audits, options, output, tables, words
from creditgate_server.cli.options import AsJson
from creditgate_server.cli.output import EXIT_CODES, ExitCode, Output, examples

if TYPE_CHECKING:
    from creditgate_server.cli.simulation import Happening, Life, Lived
    from creditgate_server.core.catalog import Catalog

_FROM = "2026-01-31T10:00Z"
_DAYS_MAX = 4_000
_LATER = "After"
_WITH = "With"

_After = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=_DAYS_MAX,
        metavar="DAYS",
        help="… after so many days.",
        show_default=False,
        rich_help_panel=_LATER,
    ),
]


def simulate(
    *,
    catalog: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="A catalog that is shipped, or a TOML file."),
    ] = "recraft",
    plan: Annotated[
        str,
        typer.Option(help="Unless given, the one where accounts begin.", show_default=False),
    ] = "",
    account: Annotated[str, typer.Option(metavar="NAME", help="What it is called.")] = "acct-1",
    days: Annotated[int, typer.Option(min=1, max=_DAYS_MAX, metavar="N", help="How long.")] = 400,
    zone: Annotated[
        str, typer.Option(metavar="ZONE", help="IANA time zone by which its buckets turn.")
    ] = "UTC",
    begins: Annotated[
        datetime,
        typer.Option("--from", parser=options.instant, metavar="INSTANT", help="From when."),
    ] = _FROM,  # type: ignore[assignment]  # typer gives it to the parser
    seats: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="How many.")] = 1,
    add_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=UNITS",
            help="Units of an add-on, from the beginning; repeat it.",
            show_default=False,
            rich_help_panel=_WITH,
        ),
    ] = None,
    buy: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Buys this pack at the beginning; repeat it.",
            show_default=False,
            rich_help_panel=_WITH,
        ),
    ] = None,
    cancel_after: _After = None,
    change_plan: Annotated[
        str,
        typer.Option(
            metavar="PLAN", help="Changes to it.", show_default=False, rich_help_panel=_LATER
        ),
    ] = "",
    change_after: _After = None,
    as_json: AsJson = False,
) -> None:
    """Show what an account on a plan lives through: resets, expiries, renewals, lapses.

    No server, no waiting: it runs on a store of its own, which is gone afterwards, with a clock
    that jumps from event to event. A job is open across each of them, and in turn succeeds, fails
    or is cancelled after it. At the end every credit is accounted for; exit code 1 if not.
    """
    # Here, because every other command does without a store.
    from creditgate_server.catalogs import reader  # noqa: PLC0415
    from creditgate_server.cli import simulation  # noqa: PLC0415
    from creditgate_server.core.faults import Fault  # noqa: PLC0415
    from creditgate_server.store.embedded import StoreStartError  # noqa: PLC0415

    if (change_after is None) != (not change_plan):
        raise typer.BadParameter("--change-plan and --change-after need each other")
    try:
        found = reader.load(catalog)
        life = simulation.Life(
            catalog=found,
            plan=_known(plan, found.plans.by_name, "plan"),
            account_id=account,
            zone=_zone(zone),
            begins_ms=(begins - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1),
            days=days,
            seats=seats,
            add_ons=tuple(_units(each, found) for each in add_on or ()),
            packs=tuple(_pack(each, found) for each in buy or ()),
            cancel_after_days=cancel_after,
            change_plan=_known(change_plan, found.plans.by_name, "plan"),
            change_after_days=change_after,
        )
        lived = simulation.live(life)
    except (reader.CatalogError, StoreStartError, Fault) as error:
        output.console(stderr=True).print(f"[bold red]error:[/] {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.FAULT) from None
    Output(as_json=as_json).show(_as_dict(life, lived), lambda: _shown(life, lived))
    if lived.audit.problems:
        raise typer.Exit(ExitCode.FAULT)


# What is asked for.


def _known(name: str, known: Iterable[str], what: str) -> str:
    if name and name not in known:
        raise typer.BadParameter(f"there is no {what} {name!r}: {', '.join(known) or 'none'}")
    return name


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise typer.BadParameter(f"{name!r} is no time zone such as Europe/Berlin") from None
    return name


def _units(text: str, catalog: "Catalog") -> tuple[str, int]:
    name, _, units = text.partition("=")
    if not units.isdecimal():
        raise typer.BadParameter(f"{text!r} is not NAME=UNITS, such as unit=2")
    return _known(name, catalog.plans.add_on_by_name, "add-on"), int(units)


def _pack(amount: int, catalog: "Catalog") -> int:
    if amount not in catalog.packs:
        known = ", ".join(map(words.amount, catalog.packs)) or "none"
        raise typer.BadParameter(f"there is no pack of {words.amount(amount)}: {known}")
    return amount


# What came of it.


def _shown(life: "Life", lived: "Lived") -> RenderableType:
    made = tables.table(
        f"date ({life.zone})", "what happened", "what moved", "available", "held",
        right=("available", "held"),
    )  # fmt: skip
    before_ms = -1
    for each in lived.happenings:
        at = "" if each.at_ms == before_ms else _local(each.at_ms, life.zone)
        before_ms = each.at_ms
        if each.entry is None:
            made.add_row(at, f"[bold cyan]{each.what}[/]")
            continue
        made.add_row(
            at,
            _said(each.entry),
            words.entry(each.entry),
            words.amount(each.entry.available_after),
            words.amount(each.entry.held_after),
        )
    head = f"{life.account_id} on {life.catalog.title}, {life.days} days"
    return Group(tables.yes(head), made, "", audits.verdict(lived.audit), *_problems(lived))


def _problems(lived: "Lived") -> list[RenderableType]:
    return [tables.no(problem) for problem in lived.audit.problems]


def _said(entry: pb.LedgerEntry) -> str:
    verb = words.name(pb.LedgerVerb, entry.verb)
    return f"{verb} {entry.hold_id or entry.bucket_id}"


def _local(at_ms: int, zone: str) -> str:
    return f"{_instant(at_ms).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _instant(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def _as_dict(life: "Life", lived: "Lived") -> dict[str, Any]:
    return {
        "ok": not lived.audit.problems,
        "account_id": life.account_id,
        "catalog_version": life.catalog.version,
        "plan": life.plan or life.catalog.plans.default,
        "zone": life.zone,
        "from": _instant(life.begins_ms).isoformat(),
        "until": _instant(life.ends_ms).isoformat(),
        "happenings": [_happening(each, life.zone) for each in lived.happenings],
        "audit": audits.as_dict(lived.audit),
    }


def _happening(each: "Happening", zone: str) -> dict[str, Any]:
    local = _instant(each.at_ms).astimezone(ZoneInfo(zone)).isoformat()
    if each.entry is None:
        return {"at": local, "what": each.what}
    return {"at": local, "what": _said(each.entry), "entry": output.as_dict(each.entry)}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    shown = examples(
        "creditgate simulate --catalog recraft --plan basic",
        "creditgate simulate --catalog imagineart --plan creator-yearly --zone Asia/Kolkata",
        "creditgate simulate --catalog aistudios --plan team --seats 3 --add-on unit=2",
        "creditgate simulate --plan basic --buy 200 --cancel-after 40 --days 90",
    )
    app.command(rich_help_panel="Catalog", epilog=f"{shown}\n\n{EXIT_CODES}")(simulate)
