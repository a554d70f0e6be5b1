"""The catalog in force, and those that quotes still bind to."""

import asyncio
import logging
from collections.abc import Callable

from creditgate_server.catalogs import reader
from creditgate_server.core.catalog import Catalog
from creditgate_server.rpc.in_force import Reloaded

_log = logging.getLogger(__name__)


class InForce:
    """Holds one catalog, and swaps it whole. `now_ms` is the clock by which quotes end.

    `source` is a name or a path, as `reader.load` takes it. Raises `CatalogError`.
    """

    def __init__(self, source: str, now_ms: Callable[[], int]) -> None:
        self._source = source
        self._now_ms = now_ms
        self._current = reader.load(source)
        self._retired: dict[str, tuple[Catalog, int]] = {}
        self._reading = asyncio.Lock()

    @property
    def current(self) -> Catalog:
        """The catalog in force."""
        return self._current

    def quoted(self, version: str) -> Catalog | None:
        """The catalog of a quote; of one that is in force no more, as long as quotes bind."""
        if version == self._current.version:
            return self._current
        catalog, until_ms = self._retired.get(version, (None, 0))
        return catalog if self._now_ms() < until_ms else None

    async def reload(self) -> Reloaded:
        """Read it again, one at a time, so that what was read last is what is in force."""
        async with self._reading:
            before = self._current
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
                self._put_in_force(read)
                _log.info("the catalog is at version %s, was %s", read.version, before.version)
        return Reloaded(version=read.version, previous_version=before.version)

    def _put_in_force(self, catalog: Catalog) -> None:
        now_ms = self._now_ms()
        binding = {
            version: (retired, until_ms)
            for version, (retired, until_ms) in self._retired.items()
            if now_ms < until_ms and version != catalog.version
        }
        binding[self._current.version] = (self._current, now_ms + self._current.quote_ms)
        self._retired, self._current = binding, catalog
