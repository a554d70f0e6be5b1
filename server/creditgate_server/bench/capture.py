"""What the server asks of the store, seen as it passes, so that it can be asked without the server.

It holds for whatever the server sends: nothing here knows the arguments of a script.
"""

import codecs
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis
import redis

from creditgate_server.store.keys import PARTITIONS_DEFAULT, Keys

_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_TIMEOUT_S = 10.0
_KEYS = Keys(PARTITIONS_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A command that was seen, and whose it was."""

    words: tuple[bytes, ...]
    account_id: str
    hold_id: str

    @property
    def name(self) -> str:
        """The command, as the store's statistics call it."""
        return self.words[0].decode().lower()

    def packed(self, account_id: str, hold_id: str) -> bytes:
        """The same command for another account and hold; their ids have the same lengths."""
        swaps = (
            (_tag(self.account_id), _tag(account_id)),
            (self.account_id.encode(), account_id.encode()),
            (self.hold_id.encode(), hold_id.encode()),
        )
        words = []
        for word in self.words:
            changed = word
            for old, new in swaps:
                changed = changed.replace(old, new)
            words.append(changed)
        packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]
        return packed


def account_key(account_id: str) -> str:
    """The key of an account."""
    return _KEYS.partition_of(account_id).account(account_id)


def ledger_key(account_id: str) -> str:
    """The key of the ledger that an account's entries are in."""
    return _KEYS.partition_of(account_id).ledger


def ledger_keys() -> tuple[str, ...]:
    """The keys of all ledgers."""
    return tuple(partition.ledger for partition in _KEYS.partitions)


def deadline_keys() -> tuple[str, ...]:
    """The keys of all deadlines."""
    return tuple(partition.deadlines for partition in _KEYS.partitions)


def _tag(account_id: str) -> bytes:
    return f"{{{_KEYS.partition_of(account_id).tag}}}".encode()


def capture(
    client: "redis.Redis", act: Callable[[], object], account_id: str, hold_id: str
) -> Captured:
    """The one command that the server sends for this hold while `act` runs."""
    seen: list[tuple[bytes, ...]] = []
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        # redis-py's own reading of these lines loses what is escaped in them.
        connection: Any = monitor.connection

        def read() -> None:
            while (line := connection.read_response(disable_decoding=True)) is not None:
                words = _words(line)
                if words == (b"ECHO", hold_id.encode()):
                    return
                source = line.partition(b"] ")[0]
                if not source.endswith(b" lua") and any(hold_id.encode() in w for w in words):
                    seen.append(words)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        act()
        client.echo(hold_id)
        reader.join(_TIMEOUT_S)
    if len(seen) != 1:
        raise AssertionError(f"one command was expected of the server, there were {len(seen)}")
    return Captured(words=seen[0], account_id=account_id, hold_id=hold_id)


def _words(line: bytes) -> tuple[bytes, ...]:
    return tuple(codecs.escape_decode(word)[0] for word in _WORD.findall(line.partition(b"] ")[2]))
