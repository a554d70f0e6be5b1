"""Commands about catalogs: prices, catalog check, show and list."""

import dataclasses
import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from creditgate.v1.catalog_pb2 import ReloadCatalogResponse
from creditgate_server.cli import tables
from creditgate_server.cli.options import AsJson
from creditgate_server.cli.output import EXIT_CODES, ExitCode, Output, examples
from creditgate_server.cli.server import Server, command

if TYPE_CHECKING:
    from creditgate_server.catalogs.diff import Difference
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


def reload(server: Server) -> None:
    """Have the server read its catalog's file again. With a problem, the old one stays in force."""
    answer = server.client.reload_catalog()
    server.show(answer, lambda: _reloaded(answer))
    if answer.problems:
        raise typer.Exit(ExitCode.FAULT)


def _reloaded(answer: ReloadCatalogResponse) -> RenderableType:
    if answer.problems:
        said = tables.no(f"{answer.version} stays in force")
        return Group(*(Text(problem) for problem in answer.problems), said)
    if answer.version == answer.previous_version:
        return tables.yes(f"{answer.version} is in force, as before")
    return tables.yes(f"{answer.version} is in force, in place of {answer.previous_version}")


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A shipped catalog, or a TOML file.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A shipped catalog, or a TOML file.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell in words what a new catalog changes, and when it counts. It needs no server."""
    from creditgate_server.catalogs import diff as differences  # noqa: PLC0415 - as in `check`
    from creditgate_server.catalogs import reader  # noqa: PLC0415

    try:
        found = differences.diff(reader.load(old), reader.load(new))
    except reader.CatalogError as error:
        typer.echo("\n".join(map(str, error.problems)), err=True)
        raise typer.Exit(ExitCode.FAULT) from None
    listed = [
        {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in dataclasses.asdict(each).items()
        }
        for each in found
    ]
    Output(as_json=as_json).show({"differences": listed}, lambda: _differences(found))


def _differences(found: "list[Difference]") -> RenderableType:
    if not found:
        return tables.yes("no difference")
    made = tables.table("when", "what changes")
    before = ""
    for each in found:
        when = each.when.value.replace("_", " ")
        made.add_row("" if when == before else when, Text(each.text))
        before = when
    return made


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
        help="Check a catalog, compare two, show or reload the one in force, list those shipped.",
    )
    group.command(epilog=f"{examples('creditgate catalog check my-catalog.toml')}\n\n{EXIT_CODES}")(
        check
    )
    command(group, panel=None, example=("creditgate catalog show",))(show)
    command(group, panel=None, example=("creditgate catalog reload",))(reload)
    shown = examples(
        "creditgate catalog diff imagineart-2024 imagineart",
        "creditgate catalog diff recraft my-catalog.toml --json",
    )
    group.command("diff", epilog=f"{shown}\n\n{EXIT_CODES}")(diff)
    group.command("list", epilog=f"{examples('creditgate catalog list')}\n\n{EXIT_CODES}")(list_)
    app.add_typer(group, name="catalog", rich_help_panel=_PANEL)
