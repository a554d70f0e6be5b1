"""Commands about catalogs: prices, catalog check, show and list."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType

from creditgate_server.cli import tables
from creditgate_server.cli.options import AsJson
from creditgate_server.cli.output import EXIT_CODES, ExitCode, Output, examples
from creditgate_server.cli.server import Server, command

if TYPE_CHECKING:
    from creditgate_server.core.catalog import Catalog

_PANEL = "Catalog"


def prices(
    server: Server,
    action: Annotated[
        str, typer.Argument(help="Only this action.", show_default=False, metavar="[ACTION]")
    ] = "",
) -> None:
    """Show the prices in force, of all actions or of one."""
    answer = server.client.list_prices(action=action)
    server.show(answer, lambda: tables.prices(answer.prices))


def show(server: Server) -> None:
    """Show the catalog that the server has in force."""
    answer = server.client.get_catalog()
    server.show(answer, lambda: tables.catalog(answer))


def check(
    file: Annotated[Path, typer.Argument(help="A TOML file.", metavar="FILE")],
    *,
    as_json: AsJson = False,
) -> None:
    """Read a catalog and say all that is wrong with it, each problem with its line.

    It needs no server. Exit code 1 if there is a problem.
    """
    # Here, because the parser of TOML takes its time, and every other command does without.
    from creditgate_server.catalogs import reader  # noqa: PLC0415

    out = Output(as_json=as_json)
    try:
        found = reader.load(file)
    except reader.CatalogError as error:
        problems = error.problems
        listed = [dataclasses.asdict(problem) for problem in problems]
        if as_json:
            out.show({"ok": False, "problems": listed}, Group)
        else:
            # As compilers say it: one line each, never wrapped, so that editors find the place.
            typer.echo("\n".join(map(str, problems)))
        raise typer.Exit(ExitCode.FAULT) from None
    out.show({"ok": True, "problems": [], **_summary(found)}, lambda: _found(file, found))


def list_(*, as_json: AsJson = False) -> None:
    """List the catalogs that come with creditgate."""
    from creditgate_server.catalogs import reader  # noqa: PLC0415 - as in `check`

    out = Output(as_json=as_json)
    found = [reader.load(name) for name in reader.shipped()]
    out.show({"catalogs": [_summary(each) for each in found]}, lambda: _list(found))


def _summary(found: "Catalog") -> dict[str, Any]:
    return {
        "name": found.name,
        "title": found.title,
        "version": found.version,
        "unit": found.unit,
        "decimals": found.decimals,
        "kinds": [kind.name for kind in found.kinds],
        "packs": list(found.packs),
        "actions": len(found.actions),
        "prices": sum(1 for _ in found.priced()),
    }


def _found(file: Path, found: "Catalog") -> RenderableType:
    said = _summary(found)
    rows = tables.catalog_rows(
        name=found.name,
        version=found.version,
        unit=found.unit,
        decimals=found.decimals,
        kinds=[kind.name.lower().replace("_", "-") for kind in found.kinds],
        packs=found.packs,
    )
    rows.append(("prices", f"{said['prices']} for {said['actions']} actions"))
    return Group(tables.yes(f"{file}: no problems"), tables.pairs(rows))


def _list(found: list["Catalog"]) -> RenderableType:
    made = tables.table("name", "title", "version", "actions", right=("actions",))
    for each in found:
        made.add_row(each.name, each.title, each.version, str(len(each.actions)))
    return made


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(
        app,
        panel=_PANEL,
        example=("creditgate prices", "creditgate prices video.generate --json"),
    )(prices)
    group = typer.Typer(
        no_args_is_help=True,
        help="Check a catalog file, show the one in force, list those shipped.",
    )
    group.command(epilog=f"{examples('creditgate catalog check my-catalog.toml')}\n\n{EXIT_CODES}")(
        check
    )
    command(group, panel=None, example=("creditgate catalog show",))(show)
    group.command("list", epilog=f"{examples('creditgate catalog list')}\n\n{EXIT_CODES}")(list_)
    app.add_typer(group, name="catalog", rich_help_panel=_PANEL)
