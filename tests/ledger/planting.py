"""Scripts with one thing changed, to show that the tests would notice."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from creditgate_server.core.commands import Command
from creditgate_server.store.script import Script, compose, source_of
from creditgate_server.store.verbs import VERBS, Verb

Verbs = dict[type[Command[Any]], Verb]


@dataclasses.dataclass(frozen=True)
class Change:
    """One text in one of the Lua files, and what stands there instead."""

    file: str
    text: str
    instead: str

    def of(self, source: str) -> str:
        """The source with the change made. The text must be there exactly once."""
        found = source.count(self.text)
        if found != 1:
            raise AssertionError(f"{self.file}.lua has {found} times: {self.text}")
        return source.replace(self.text, self.instead)


def planted(*changes: Change) -> Verbs:
    """The verbs of the store, with changes in their scripts."""
    changed: dict[str, str] = {}
    for change in changes:
        changed[change.file] = change.of(changed.get(change.file, source_of(change.file)))
    return {
        command: dataclasses.replace(verb, script=_script(verb.script.name, changed))
        for command, verb in VERBS.items()
    }


def _script(name: str, changed: Mapping[str, str]) -> Script:
    return compose(name, lambda file: changed.get(file) or source_of(file))
