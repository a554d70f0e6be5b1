"""The command `demo`: what creditgate does, told in steps, on a server of its own."""

import logging
import time
from typing import Annotated

import typer
from rich.console import Console

import creditgate
from creditgate_server.cli import output
from creditgate_server.cli.options import AsJson
from creditgate_server.cli.output import EXIT_CODES, ExitCode, Output, examples


def demo(
    *,
    pause: Annotated[bool, typer.Option("--pause", help="Wait for Enter between steps.")] = False,
    as_json: AsJson = False,
) -> None:
    """See what creditgate does, in eight steps and about ten seconds.

    It needs nothing: it starts a server and a store of its own in a temporary directory, plays a
    month of an account on the catalog "recraft", and checks at the end that no credit was lost.
    Then all of it is gone. Exit code 1 if anything was not as it was told.
    """
    # Here, because every other command does without the server.
    from creditgate_server.cli.demo.stage import Stage, WentWrong  # noqa: PLC0415
    from creditgate_server.cli.demo.story import tell  # noqa: PLC0415
    from creditgate_server.cli.demo.world import StartError, own_server  # noqa: PLC0415

    began_s = time.monotonic()
    # What the server logs would stand in the middle of the story.
    logging.basicConfig(level=logging.CRITICAL)
    console = Console(quiet=True) if as_json else output.console()
    try:
        with own_server() as server:
            stage = Stage(console, server, pause=pause)
            found = tell(stage)
    except (*StartError, WentWrong, creditgate.CreditgateError) as error:
        output.console(stderr=True).print(f"[bold red]the demo failed:[/] {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.FAULT) from None
    took_s = time.monotonic() - began_s
    if as_json:
        told = {"ok": not found.problems, "steps": stage.steps, "seconds": round(took_s, 1)}
        Output(as_json=True).show(told, str)
    else:
        stage.close(found, took_s)
    if found.problems:
        raise typer.Exit(ExitCode.FAULT)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    shown = examples("creditgate demo", "creditgate demo --pause", "creditgate demo --json")
    app.command(rich_help_panel="Server", epilog=f"{shown}\n\n{EXIT_CODES}")(demo)
