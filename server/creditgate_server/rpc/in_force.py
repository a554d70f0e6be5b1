"""The catalog in force, as services see it: it may be another one at the next request."""

from dataclasses import dataclass
from typing import Protocol

from creditgate_server.core.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What came of reading the catalog again. With problems, `version` is what it was."""

    version: str
    previous_version: str
    problems: tuple[str, ...] = ()
    """A line each, with file, line and field."""


class Catalogs(Protocol):
    """Holds the catalog in force, and for a while those that were."""

    @property
    def current(self) -> Catalog:
        """The catalog in force. A request asks once, and stays with what it got."""
        ...

    def quoted(self, version: str) -> Catalog | None:
        """The catalog of a quote while it binds; None for one that is unknown or too old."""
        ...

    async def reload(self) -> Reloaded:
        """Read it again, and put it in force at once if nothing is wrong with it."""
        ...
