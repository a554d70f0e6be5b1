"""The command `serve`: a flag for each setting, a log that people can read."""

import asyncio
import functools
import inspect
import logging
import multiprocessing
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, get_args

import structlog
import typer
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from rich.console import Group
from rich.text import Text

from creditgate_server.app.settings import Settings
from creditgate_server.cli import output, tables
from creditgate_server.cli.output import EXIT_CODES, ExitCode, examples

if TYPE_CHECKING:
    from creditgate_server.app.server import Running
    from creditgate_server.app.workers import Serving

_log = logging.getLogger(__name__)

_PREFIX = "CREDITGATE_"
_LOG_JSON = Annotated[
    bool,
    typer.Option(
        "--log-json",
        envvar="CREDITGATE_LOG_JSON",
        show_envvar=False,
        help="log one JSON object a line",
    ),
]


def serve(*, log_json: bool, **given: Any) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way.

    Without any option it starts a store of its own, keeps its data in the user's data directory,
    prices by the shipped catalog "recraft" and listens on this machine only.

    Each option may be given as a variable too: --log-level is CREDITGATE_LOG_LEVEL.
    """
    settings = _settings(given)
    _log_to_stderr(settings.log_level, as_json=log_json)
    problem = _run(settings, log_json=log_json)
    if problem is not None:
        output.console(stderr=True).print(
            Text.assemble(("creditgate is not running: ", "bold red"), problem), soft_wrap=True
        )
        raise typer.Exit(ExitCode.FAULT)


def _run(settings: Settings, *, log_json: bool) -> str | None:
    """Serve to the end; what has hindered the start, if anything."""
    # Here, because every other command does without them and starts sooner.
    from creditgate_server.app import server, workers  # noqa: PLC0415
    from creditgate_server.app.addresses import RefusedToStart  # noqa: PLC0415
    from creditgate_server.catalogs.reader import CatalogError  # noqa: PLC0415
    from creditgate_server.store.embedded import StoreStartError  # noqa: PLC0415
    from creditgate_server.store.link import StoreError  # noqa: PLC0415
    from creditgate_server.store.redis_ledger import StoreMismatch  # noqa: PLC0415

    def announce(running: "Running | Serving") -> None:
        _announce(settings, running, log_json=log_json)

    log = functools.partial(_log_to_stderr, settings.log_level, as_json=log_json)
    try:
        if settings.workers == 1:
            asyncio.run(server.serve(settings, announce))
        else:
            asyncio.run(workers.serve(settings, announce, prepare=log))
    except CatalogError as error:
        return f"the catalog has problems:\n{error}"
    except (
        RefusedToStart,
        StoreStartError,
        StoreError,
        StoreMismatch,
        workers.WorkersLost,
    ) as error:
        return str(error)
    return None


def _announce(settings: Settings, running: "Running | Serving", *, log_json: bool) -> None:
    catalog = running.catalog
    facts = {"listens on": running.address}
    if settings.socket is not None:
        facts["and on"] = f"unix:{settings.socket.absolute()}"
    if settings.workers > 1:
        facts["workers"] = str(settings.workers)
    facts["engine"] = f"{running.engine}, grpcio {metadata.version('grpcio')}"
    facts["store"] = running.store
    facts["catalog"] = f"{catalog.name}, version {catalog.version}, {len(catalog.actions)} actions"
    if log_json:
        _log.info("ready", extra={name.replace(" ", "_"): fact for name, fact in facts.items()})
        return
    lines = [tables.yes("creditgate is ready")]
    lines += [Text.assemble((f"{name:<12}", "dim"), fact) for name, fact in facts.items()]
    # Not wrapped: a path that is cut in two is of no use.
    output.console(stderr=True).print(Group(*lines), soft_wrap=True)


# The flags.


def _settings(given: dict[str, Any]) -> Settings:
    """The settings: flags before the environment before the defaults."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise typer.BadParameter(
            f"{_flag(name)} (or {_PREFIX}{name.upper()}): {first['msg']}"
        ) from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """The flag of a setting, in its words; the settings themselves check its value."""
    secret = SecretStr in (field.annotation, *get_args(field.annotation))
    kind = str if secret else field.annotation
    default = None if field.default_factory is not None else field.default
    described = typer.Option(
        _flag(name),
        help=field.description,
        envvar=f"{_PREFIX}{name.upper()}",
        show_envvar=False,
        show_default=False if default is None or default is False else str(default),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind | None, described],  # type: ignore[operator]
        default=None,
    )


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    flags = [_option(name, field) for name, field in Settings.model_fields.items()]
    log_json = inspect.Parameter(
        "log_json", inspect.Parameter.KEYWORD_ONLY, annotation=_LOG_JSON, default=False
    )
    serve.__signature__ = inspect.Signature([*flags, log_json])  # type: ignore[attr-defined]
    shown = examples(
        "creditgate serve",
        "creditgate serve --data /var/lib/creditgate --catalog my-catalog.toml",
        "creditgate serve --redis redis://127.0.0.1:6379/0 --log-json",
        "creditgate serve --redis redis+cluster://127.0.0.1:7000,127.0.0.1:7001 --replicas 1",
        "creditgate serve --redis redis+sentinel://127.0.0.1:26379/mymaster --replicas 2",
    )
    app.command(rich_help_panel="Server", epilog=f"{shown}\n\n{EXIT_CODES}")(serve)


# The log.


def _log_to_stderr(level: str, *, as_json: bool) -> None:
    """What the parts log with the standard library, a line for each on stderr."""
    before: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_worker,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if as_json:
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
                exception_formatter=structlog.dev.plain_traceback,
                pad_event_to=0,
            )
        ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _add_worker(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Who says it, where several write one log."""
    if multiprocessing.parent_process() is not None:
        event["process"] = multiprocessing.current_process().name
    return event
