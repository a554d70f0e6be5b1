"""All commands, in the order in which the help shows them."""

from importlib import metadata
from typing import Annotated

import typer

from creditgate_server.cli import (
    accounts,
    bench,
    catalogs,
    demo,
    holds,
    insights,
    serve,
    simulate,
    subscriptions,
    views,
)
from creditgate_server.cli.output import EXIT_CODES

app = typer.Typer(
    name="creditgate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - so calls typer
    if wanted:
        typer.echo(f"creditgate {metadata.version('creditgate')}")
        raise typer.Exit


@app.callback()
def creditgate(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hold credits before a generation job, settle them after it.

    New here? Run [bold cyan]creditgate demo[/]: it needs nothing, and explains itself.
    """


for module in (
    serve,
    demo,
    bench,
    holds,
    views,
    insights,
    accounts,
    subscriptions,
    catalogs,
    simulate,
):
    module.add_to(app)
