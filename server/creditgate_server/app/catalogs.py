"""The catalog in force, and those that quotes still bind to."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from creditgate_server.catalogs import reader
from creditgate_server.core.catalog import Catalog
from creditgate_server.rpc.in_force import Reloaded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Versions:
    """The catalog in force, and by version those that quotes still bind to, until when in ms."""

    current: Catalog
    retired: Mapping[str, tuple[Catalog, int]] = field(default_factory=dict)

    def quoted(self, version: str, now_ms: int) -> Catalog | None:
        """The catalog of a quote, as long as the quote binds."""
        if version == self.current.version:
            return self.current
        catalog, until_ms = self.retired.get(version, (None, 0))
        return catalog if now_ms < until_ms else None

    def followed_by(self, catalog: Catalog, now_ms: int) -> "Versions":
        """Another catalog in force; quotes of this one go on to bind."""
        binding = {
            version: (retired, until_ms)
            for version, (retired, until_ms) in self.retired.items()
            if now_ms < until_ms and version != catalog.version
        }
        binding[self.current.version] = (self.current, now_ms + self.current.quote_ms)
        return Versions(catalog, binding)


class InForce:
    """Holds one catalog, and swaps it whole. `now_ms` is the clock by which quotes end.

    `source` is a name or a path, as `reader.load` takes it. Raises `CatalogError`.
    """

    def __init__(self, source: str, now_ms: Callable[[], int]) -> None:
        self._source = source
        self._now_ms = now_ms
        self.versions = Versions(reader.load(source))
        self._reading = asyncio.Lock()

    @property
    def current(self) -> Catalog:
        """The catalog in force."""
        return self.versions.current

    def quoted(self, version: str) -> Catalog | None:
        """The catalog of a quote; of one that is in force no more, as long as quotes bind."""
        return self.versions.quoted(version, self._now_ms())

    async def reload(self) -> Reloaded:
        """Read it again, one at a time, so that what was read last is what is in force."""
        async with self._reading:
            before = self.current
            try:
                # Beside the loop: a large file would hold up every request.
                read = await asyncio.to_thread(reader.load, self._source)
            except reader.CatalogError as error:
                problems = tuple(map(str, error.problems))
                _log.error("the catalog stays at version %s: %s", before.version, error)
                return Reloaded(
                    version=before.version, previous_version=before.version, problems=problems
                )
            if read.version != before.version:
                self.versions = self.versions.followed_by(read, self._now_ms())
                _log.info("the catalog is at version %s, was %s", read.version, before.version)
        return Reloaded(version=read.version, previous_version=before.version)
