"""Where the story is told: each step's words, what was called, the balance and the new entries."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

import creditgate
from creditgate.v1.resources_pb2 import LedgerEntry
from creditgate_server.app.server import Running
from creditgate_server.cli import audits, tables, words
from creditgate_server.cli.output import as_dict

_PROSE_WIDTH = 96


class WentWrong(Exception):
    """Something was not as the story tells it."""


class Stage:
    """Tells steps to people as they happen, and keeps them as data in `steps`."""

    def __init__(self, console: Console, server: Running, *, pause: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self.server = server
        self._console = console
        self._pause = pause and console.is_terminal
        self._width = min(console.width, _PROSE_WIDTH)
        self._seq = 0

    def open(self, title: str, text: str) -> None:
        """Say what this is all about."""
        self._console.print()
        self._console.rule(Text(title, style="bold"), style="cyan", align="left")
        self._prose(text)

    @contextmanager
    def step(
        self, client: creditgate.Client, account_id: str, title: str, text: str
    ) -> Iterator[None]:
        """Tell one step; at its end show the balance, and the entries that are new."""
        told = self._begin(title, text)
        yield
        balance = client.get_balance(account_id)
        entries = self._new_entries(client, account_id)
        told["balance"] = as_dict(balance)
        told["entries"] = [as_dict(entry) for entry in entries]
        self._console.print()
        self._indented(tables.buckets(balance.buckets))
        self._console.print()
        if entries:
            self._indented(tables.ledger(entries, with_time=False))
        else:
            self._indented(tables.dim("nothing new in the ledger"))

    def last_step(self, title: str, text: str, found: audits.Audit) -> None:
        """Tell what an audit has found."""
        told = self._begin(title, text)
        told["audit"] = audits.as_dict(found)
        self._indented(audits.details(found))

    def _begin(self, title: str, text: str) -> dict[str, Any]:
        number = len(self.steps) + 1
        told: dict[str, Any] = {"number": number, "title": title, "text": text, "calls": []}
        self.steps.append(told)
        if self._pause:
            self._console.input("\n[dim]Enter goes on[/] ")
        self._console.print()
        self._console.rule(
            Text.assemble((f" {number} ", "bold reverse cyan"), (f" {title}", "bold")),
            style="cyan",
            align="left",
        )
        self._prose(text)
        return told

    def call(self, what: str, answer: str) -> None:
        """Show a call and its answer."""
        self.steps[-1]["calls"].append({"call": what, "answer": answer})
        shown = Text.assemble(("▸ ", "cyan"), what, ("  →  ", "cyan"), (answer, "bold"))
        self._indented(shown)

    def expect(self, *, told: bool, otherwise: str) -> None:
        """The story is only told if it is true."""
        if not told:
            raise WentWrong(f"step {len(self.steps)}: {otherwise}")

    @contextmanager
    def countdown(self, label: str, seconds: float) -> Iterator["Countdown"]:
        """A bar that runs while something is waited for."""
        progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30, style="dim", complete_style="cyan", finished_style="yellow"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with progress:
            yield Countdown(progress, label, seconds)

    def close(self, found: audits.Audit, took_s: float) -> None:
        """The last words, of which the very last is the verdict."""
        self._console.print()
        self._console.print(
            tables.dim(f"That took {took_s:.1f} s; the server, its store and the account are gone.")
        )
        self._console.print(
            "Your turn: [bold cyan]creditgate serve[/], and in another terminal "
            "[bold cyan]creditgate --help[/]\n"
        )
        self._console.print(audits.verdict(found))

    def _prose(self, text: str) -> None:
        self._console.print(Padding(Text(text), (0, 0, 1, 2)), width=self._width)

    def _indented(self, shown: Any) -> None:
        self._console.print(Padding(shown, (0, 0, 0, 2)))

    def _new_entries(self, client: creditgate.Client, account_id: str) -> list[LedgerEntry]:
        found = []
        for entry in client.ledger(account_id):
            if entry.seq <= self._seq:
                break
            found.append(entry)
        if found:
            self._seq = found[0].seq
        return found[::-1]


class Countdown:
    """A bar from a deadline's beginning to its end, and a little beyond."""

    def __init__(self, progress: Progress, label: str, seconds: float) -> None:
        self._progress = progress
        self._seconds = seconds
        self._task = progress.add_task(label, total=seconds, left="")

    def left(self, left_s: float) -> None:
        """So much is left; below 0 the deadline has passed."""
        said = f"{left_s:.1f} s to the deadline" if left_s > 0 else f"{-left_s:.1f} s after it"
        self._progress.update(self._task, completed=self._seconds - left_s, left=said)


def utc(when: Any) -> datetime:
    """An instant as Python has it."""
    found: datetime = when.ToDatetime(tzinfo=UTC)
    return found


def credits(number: int) -> str:
    """An amount of credits in words."""
    return f"{words.amount(number)} credit{'' if number == 1 else 's'}"
