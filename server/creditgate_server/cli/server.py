"""Commands that ask a running server: how they reach it, and what a fault of it becomes."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import typer

import creditgate
from creditgate_server.cli.options import ADDRESS, TIMEOUT, Address, AsJson, Timeout
from creditgate_server.cli.output import EXIT_CODES, ExitCode, Output, examples

_HINTS: dict[type[creditgate.Fault], str] = {
    creditgate.AccountNotFound: "creditgate account put {account_id}",
    creditgate.HoldNotFound: "`creditgate holds ACCOUNT` lists the open ones",
    creditgate.BucketNotFound: "`creditgate balance ACCOUNT` lists the buckets",
    creditgate.PlanNotFound: "`creditgate catalog show` lists the plans",
    creditgate.NotSubscribed: "`creditgate subscribe ACCOUNT REFERENCE PLAN`",
    creditgate.PackNotFound: "`creditgate catalog show` lists the packs",
    creditgate.NoSuchMethod: "is it in developer mode? `creditgate serve --developer` has a clock",
    creditgate.OutcomeUnknown: "send the same command again: it takes effect once",
    creditgate.Unavailable: "is a server listening at {address}? `creditgate serve` starts one",
}


@dataclass(frozen=True)
class Server(Output):
    """A running server, and where its answers go."""

    client: creditgate.Client


@contextmanager
def asking(address: str, timeout: timedelta, *, as_json: bool) -> Iterator[Server]:
    """A server to talk to. A fault is printed, and ends the program with its exit code."""
    budget_s = timeout.total_seconds()
    if budget_s <= 0:
        raise typer.BadParameter("--timeout must be above 0")
    with creditgate.Client(address, budget_s=budget_s, timeout_s=min(2.0, budget_s)) as client:
        server = Server(client, as_json=as_json)
        try:
            yield server
        except creditgate.Fault as fault:
            server.fault(fault, _hint(fault, address))
            raise typer.Exit(_exit_code(fault)) from None
        except UnicodeEncodeError:
            raise typer.BadParameter("ids and names are UTF-8 text") from None


def _hint(fault: creditgate.Fault, address: str) -> str:
    found = next((text for kind, text in _HINTS.items() if isinstance(fault, kind)), "")
    return found.format_map({"address": address, "account_id": "ACCOUNT", **fault.metadata})


def _exit_code(fault: creditgate.Fault) -> ExitCode:
    return ExitCode.UNREACHABLE if isinstance(fault, creditgate.Unavailable) else ExitCode.FAULT


def command(
    app: typer.Typer, *, panel: str | None, example: tuple[str, ...]
) -> Callable[[Callable[..., None]], None]:
    """Add a command that asks a server: to its own options come --address, --timeout and --json."""

    def add(function: Callable[..., None]) -> None:
        @functools.wraps(function)
        def run(*, address: str, timeout: timedelta, as_json: bool, **own: Any) -> None:
            with asking(address, timeout, as_json=as_json) as server:
                function(server, **own)

        _, *options = inspect.signature(function).parameters.values()
        shared = (
            _option("address", Address, ADDRESS),
            _option("timeout", Timeout, TIMEOUT),
            _option("as_json", AsJson, default=False),
        )
        run.__signature__ = inspect.Signature([*options, *shared])  # type: ignore[attr-defined]
        app.command(
            function.__name__.replace("_", "-"),
            rich_help_panel=panel,
            epilog=f"{examples(*example)}\n\n{EXIT_CODES}",
        )(run)

    return add


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
