"""What a person or a program gets to read: tables or JSON on stdout, faults on stderr."""

import enum
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console, Group, RenderableType
from rich.text import Text

import creditgate

# Where the output goes to a file or a pipe nobody knows how wide it will be shown.
_WIDTH_ELSEWHERE = 120


class ExitCode(enum.IntEnum):
    """What the shell is told."""

    OK = 0
    FAULT = 1
    USAGE = 2
    DENIED = 3
    UNREACHABLE = 4


EXIT_CODES = """[bold]Exit codes[/]
  0  ok, approved
  1  a fault, or a check that failed
  2  wrong usage
  3  denied, which is an answer
  4  not reached, or the outcome is unknown: send the same command again"""


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["[bold]Examples[/]", *(f"  [green]$[/] {line}" for line in lines)])


def console(*, stderr: bool = False) -> Console:
    """A console for this moment's stdout or stderr."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH_ELSEWHERE
    return made


def as_dict(message: Message) -> dict[str, Any]:
    """The protobuf JSON mapping of a message, with the names of the contract; zeros are shown."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command says its answer, once."""

    as_json: bool

    def show(
        self, answer: Message | Mapping[str, Any], to_people: Callable[[], RenderableType]
    ) -> None:
        """Print an answer: as it is, or in the form for people."""
        if self.as_json:
            _print_json(answer if isinstance(answer, Mapping) else as_dict(answer), console())
        else:
            console().print(to_people())

    def fault(self, fault: creditgate.Fault, hint: str) -> None:
        """Say on stderr what went wrong."""
        if self.as_json:
            said = {
                "error": type(fault).__name__,
                "reason": fault.reason,
                "outcome": fault.outcome,
                "metadata": fault.metadata,
                "message": str(fault),
            }
            _print_json(said, console(stderr=True))
            return
        lines = [Text.assemble(("error: ", "bold red"), str(fault))]
        if hint:
            lines.append(Text.assemble(("hint:  ", "bold yellow"), hint))
        console(stderr=True).print(Group(*lines), soft_wrap=True)


def _print_json(document: Mapping[str, Any], to: Console) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if to.is_terminal:
        to.print_json(text)
    else:
        to.file.write(text + "\n")
