"""The scripts as the store gets them: the prelude in front of each verb, named by its content."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

_FLAGS = re.compile(r"^--   flags    (.+)$", re.MULTILINE)
_LINE = re.compile(r"(?:user_script|script):(\d+)")


@dataclass(frozen=True, slots=True)
class Script:
    """One script. Versions of creditgate can run side by side, since `sha` names the content."""

    name: str
    source: str = field(repr=False)
    prelude_lines: int = 0
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    def explain(self, error: str) -> str:
        """The text of a script error with its place named by file, such as authorize.lua:12."""

        def place(match: re.Match[str]) -> str:
            line = int(match[1])
            if line <= self.prelude_lines:
                return f"prelude.lua:{line - 1}"
            return f"{self.name}.lua:{line - self.prelude_lines}"

        return _LINE.sub(place, error)


def compose(name: str, prelude: str, verb: str) -> Script:
    """Join the parts. `#!lua` lets the store (7.0) refuse before line 1 what it cannot finish."""
    flags = _FLAGS.search(verb)
    head = f"#!lua flags={flags[1]}\n" if flags else "#!lua\n"
    above = head + prelude
    return Script(name, above + verb, prelude_lines=above.count("\n"))


def source_of(name: str) -> str:
    """The text of one file of `lua/`."""
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script(name: str) -> Script:
    """The script of this verb."""
    return compose(name, source_of("prelude"), source_of(name))
