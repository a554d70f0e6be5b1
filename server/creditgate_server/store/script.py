"""The scripts as the store gets them: a verb behind the parts it needs, named by its content."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

_FLAGS = re.compile(r"^--   flags    (.+)$", re.MULTILINE)
_NEEDS = re.compile(r"^--   needs    (.+)$", re.MULTILINE)
_LINE = re.compile(r"(?:user_script|script):(\d+)")


@dataclass(frozen=True, slots=True)
class Script:
    """One script. Versions of creditgate can run side by side, since `sha` names the content."""

    name: str
    source: str = field(repr=False)
    files: tuple[tuple[str, int], ...] = ()
    """The files it is made of, each with the number of the line before its first."""
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    def explain(self, error: str) -> str:
        """The text of a script error with its place named by file, such as authorize.lua:12."""

        def place(match: re.Match[str]) -> str:
            line = int(match[1])
            name, before = max(
                (file for file in self.files if file[1] < line), key=lambda file: file[1]
            )
            return f"{name}.lua:{line - before}"

        return _LINE.sub(place, error)


def compose(name: str, read: Callable[[str], str]) -> Script:
    """Join a verb with the parts it needs, and the parts those need, each once and before.

    A script makes its functions anew at every call, so that a part nobody needs would cost time.
    `#!lua` lets the store (7.0) refuse before line 1 what it cannot finish.
    """
    flags = _FLAGS.search(read(name))
    source = f"#!lua flags={flags[1]}\n" if flags else "#!lua\n"
    files = []
    for file in _in_order(name, read):
        files.append((file, source.count("\n")))
        source += read(file)
    return Script(name, source, tuple(files))


def _in_order(name: str, read: Callable[[str], str]) -> list[str]:
    found: list[str] = []

    def add(file: str) -> None:
        needs = _NEEDS.search(read(file))
        for part in needs[1].split() if needs else ():
            add(f"parts/{part}")
        if file not in found:
            found.append(file)

    add(name)
    return found


def source_of(name: str) -> str:
    """The text of one file of `lua/`."""
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script(name: str) -> Script:
    """The script of this verb."""
    return compose(name, source_of)
