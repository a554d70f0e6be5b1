"""The command `bench`: what creditgate costs on this machine, and which goals that meets."""

# ruff: noqa: PLR0913 - The options of a command are its arguments.

import importlib.util
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from creditgate_server.app.settings import Settings
from creditgate_server.cli import output, tables
from creditgate_server.cli.output import EXIT_CODES, ExitCode, examples

_HOW = "How much"
_WHERE = "Of what"
_REPORT = "Report"

_NEEDED = {"hdrh": "hdrhistogram", "hpack": "hpack"}
_NEEDED_FOR_HTML = {"jinja2": "jinja2", "matplotlib": "matplotlib"}

_PREFIX = "creditgate-bench-"

_MODES = {
    # seconds of a round, rounds, seconds before it counts, part of the sizes
    "quick": (0.1, 1, 0.02, 0.01),
    "default": (1.0, 5, 0.2, 0.1),
    "full": (3.0, 7, 0.5, 1.0),
}


def bench(
    *,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Look at everything for a moment.", rich_help_panel=_HOW),
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="At the sizes of the goals, such as 5,000,000 ledger entries; takes 4 GB.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    only: Annotated[
        str,
        typer.Option(metavar="NAMES", help="These figures, such as L1,U2.", rich_help_panel=_HOW),
    ] = "",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=600,
            help="How long a round takes.",
            show_default=False,
            rich_help_panel=_HOW,
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="How many there are; the median counts.",
            show_default=False,
            rich_help_panel=_HOW,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=1.0,
            help="Part of the goals' sizes: 0.1 is 500,000 ledger entries.",
            show_default=False,
            rich_help_panel=_HOW,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help="The server's engine.", show_default=False, rich_help_panel=_WHERE),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            writable=True,
            help="Where stores keep their files meanwhile, to measure its disk.",
            show_default="a temporary directory",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="A server that runs already: host:port, or unix:/path.",
            show_default=False,
            rich_help_panel=_WHERE,
        ),
    ] = "",
    write_test_accounts: Annotated[
        bool,
        typer.Option(
            "--write-test-accounts",
            help="Allow it to load --target, and to make accounts there that stay: their names "
            "begin with creditgate-bench-.",
            rich_help_panel=_WHERE,
        ),
    ] = False,
    action: Annotated[
        str, typer.Option(help="What is authorized.", rich_help_panel=_WHERE)
    ] = "image.generate",
    model: Annotated[str, typer.Option(help="With which model.", rich_help_panel=_WHERE)] = (
        "recraft-v3"
    ),
    as_json: Annotated[
        str,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the report for programs; - for stdout.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = "",
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write the report with plots, as one file.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write its tables in Markdown; in a page with marks, between them.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    read: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Measure nothing: show the report that --json has written.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
) -> None:
    """Measure what creditgate costs on this machine, in a few minutes.

    It starts a server and a store of its own, loads them from a process that costs little, and
    compares in turns, round by round: an RPC that does nothing, the bare script at the store, and
    Authorize, Settle, both, Execute and the client library. So its figures are [bold]ratios[/]
    within one run, and CPU time for each operation of each process: times alone say more about the
    machine than about the program.

    Figures have names and goals; docs/performance.md explains them. Nothing is left behind. Let
    the machine do nothing else meanwhile. Runs on Linux.
    """
    _check(html)
    names = _names(only)
    if quick and full:
        raise typer.BadParameter("give --quick or --full, not both")
    if engine and not _is_engine(engine):
        raise typer.BadParameter(f"--engine {engine}: this version has no such engine")
    if target and not write_test_accounts:
        raise typer.BadParameter(
            "--target: this loads that server and makes accounts there that stay, named "
            "creditgate-bench-…: say --write-test-accounts if it may"
        )
    if read is not None:
        document: Mapping[str, Any] = json.loads(read.read_text(encoding="utf-8"))
    else:
        mode = "quick" if quick else "full" if full else "default"
        chosen = [
            preset if given is None else given
            for given, preset in zip((seconds, rounds, None, scale), _MODES[mode], strict=True)
        ]
        document = _measure(
            {
                "mode": mode,
                "seconds": chosen[0],
                "rounds": chosen[1],
                "warm_s": chosen[2],
                "scale": chosen[3],
                "engine": engine,
                "target": target,
                "action": action,
                "model": model,
            },
            folder,
            names,
        )
    _write(document, as_json, html, markdown)


def _check(html: Path | None) -> None:
    """Whether all is there that is needed, before minutes are spent."""
    needed = _NEEDED | (_NEEDED_FOR_HTML if html else {})
    missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        _fail(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; "
            "what the benchmark needs comes with: pip install 'creditgate[server,bench]'"
        )
    if sys.platform != "linux":
        _fail("it reads the CPU time of each process as Linux tells it, and runs on Linux only")


def _fail(problem: str) -> None:
    output.console(stderr=True).print(
        Text.assemble(("the benchmark failed: ", "bold red"), problem), soft_wrap=True
    )
    raise typer.Exit(ExitCode.FAULT)


def _names(only: str) -> list[str]:
    # Here, because every other command does without it.
    from creditgate_server.bench.goals import GOALS  # noqa: PLC0415

    names = [name.strip().upper() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in GOALS]
    if unknown:
        raise typer.BadParameter(f"--only {','.join(unknown)}: the figures are {', '.join(GOALS)}")
    return names


def _is_engine(name: str) -> bool:
    field = Settings.model_fields.get("engine")
    return field is not None and name in get_args(field.annotation)


def _measure(given: dict[str, Any], folder: Path | None, names: list[str]) -> Mapping[str, Any]:
    from creditgate_server.bench import sections  # noqa: PLC0415
    from creditgate_server.bench.load import Wrong  # noqa: PLC0415
    from creditgate_server.bench.programs import StartError  # noqa: PLC0415
    from creditgate_server.bench.rig import Plan  # noqa: PLC0415
    from creditgate_server.bench.wires import WireError  # noqa: PLC0415
    from creditgate_server.store.embedded import StoreStartError  # noqa: PLC0415

    logging.basicConfig(level=logging.CRITICAL)
    # However it is ended, it puts away what it has made.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The server shall be what is measured, not what this shell is set to.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CREDITGATE_")
    }
    try:
        with (
            tempfile.TemporaryDirectory(prefix=_PREFIX) as place,
            tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as data,
            _bar() as progress,
        ):
            plan = Plan(folder=Path(place), data=Path(data), environment=environment, **given)
            task = progress.add_task("", total=1.0, what="")

            def on_step(title: str, what: str, done: float) -> None:
                progress.update(task, description=title, what=what, completed=done)

            return sections.run(plan, names, on_step).document
    except KeyboardInterrupt:
        output.console(stderr=True).print("stopped; nothing is left behind")
        raise typer.Exit(ExitCode.FAULT) from None
    except (StartError, StoreStartError, Wrong, WireError, OSError) as error:
        _fail(str(error))
        raise


@contextmanager
def _bar() -> Iterator[Progress]:
    console = output.console(stderr=True)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[what]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


def _write(
    document: Mapping[str, Any], as_json: str, html: Path | None, markdown: Path | None
) -> None:
    from creditgate_server.bench import shown  # noqa: PLC0415

    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if as_json == "-":
        sys.stdout.write(text)
    elif as_json:
        Path(as_json).write_text(text, encoding="utf-8")
    if markdown is not None:
        before = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
        markdown.write_text(shown.with_figures(before, document), encoding="utf-8")
    if html is not None:
        from creditgate_server.bench import page  # noqa: PLC0415

        html.write_text(page.render(document), encoding="utf-8")
    if as_json != "-":
        output.console().print(_tables(document))


def _tables(document: Mapping[str, Any]) -> RenderableType:
    from creditgate_server.bench import shown  # noqa: PLC0415

    goals = tables.table("", "figure", "goal", "came to", "verdict")
    for name, figure in document["figures"].items():
        what = Text(figure["figure"])
        for detail in filter(None, (shown.remark(figure), shown.made_of(figure))):
            what.append(f"\n{detail}", style="dim")
        goals.add_row(
            Text(name, style="bold"),
            what,
            shown.goal(figure),
            shown.came_to(figure),
            _verdict(figure["verdict"]),
        )
    loads = tables.table(*shown.ROWS, right=shown.ROWS[1:], title="Loads")
    for row in shown.rows(document):
        loads.add_row(*row)
    said = ", ".join(f"{name} {value}" for name, value in shown.conditions(document))
    problems = [tables.no(problem) for problem in document["problems"]]
    return Group(loads, tables.dim(shown.LEGEND), "", goals, "", *problems, tables.dim(said))


def _verdict(verdict: str) -> Text:
    style = {"met": "bold green", "not met": "bold red"}.get(verdict, "yellow")
    return Text(verdict, style=style)


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    shown = examples(
        "creditgate bench",
        "creditgate bench --quick --only L1,U1,U2",
        "creditgate bench --full --json report.json --html report.html",
        "creditgate bench --from report.json --html report.html",
        "creditgate bench --target 127.0.0.1:7420 --write-test-accounts",
    )
    app.command(rich_help_panel="Server", epilog=f"{shown}\n\n{EXIT_CODES}")(bench)
