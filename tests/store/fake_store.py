"""A small server that speaks the store's protocol and misbehaves as told."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import hiredis


class FakeStore:
    """Answers EVALSHA by the kind that its arguments ask for, and remembers what it has run.

    The arguments of a script are an id and a kind: echo, list, nil, error.
    """

    def __init__(self, path: Path | None, chance: random.Random | None = None) -> None:
        self.url = f"unix://{path}"
        self.port = 0
        """Where it listens without a path."""
        self.executed: Counter[bytes] = Counter()
        self.connections = 0
        self.answers: dict[bytes, bytes] = {}
        """Replies by the command's first word, instead of its own."""
        self.silent = asyncio.Event()
        """While set, commands are run and not answered."""
        self.hearing = asyncio.Event()
        """While not set, nothing is even read."""
        self.hearing.set()
        self.forgets = 0.0
        """How probably the script cache is emptied before a script runs."""
        self.cuts = 0.0
        """How probably a connection is cut in the middle of its replies."""
        self._path = path
        self._chance = chance
        self._known: set[bytes] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_all(self) -> None:
        """Cut every connection, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    def say(self, reply: bytes) -> None:
        """Send something on every connection that nobody asked for."""
        for writer in self._writers:
            writer.write(reply)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._answer_all(reader, writer)
        except (OSError, asyncio.CancelledError):
            # Ended by the end of the test.
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while True:
            await self.hearing.wait()
            data = await reader.read(65536)
            if not data:
                return
            commands.feed(data)
            replies = b""
            while (command := commands.gets()) is not False:
                replies += self._answer(command)
            if not self.silent.is_set() and not await self._send(writer, replies):
                return

    async def _send(self, writer: asyncio.StreamWriter, replies: bytes) -> bool:
        """In pieces of any size at any time, or only the beginning of it."""
        if self._chance is None:
            writer.write(replies)
            return True
        # Once the race is on: opening a link is not what is tested.
        cut = bool(self.executed) and self._chance.random() < self.cuts
        if cut:
            replies = replies[: self._chance.randrange(len(replies) + 1)]
        while replies:
            size = self._chance.choice((1, 3, 50, 1000, 20000))
            writer.write(replies[:size])
            await writer.drain()
            await asyncio.sleep(self._chance.choice((0, 0, 0, 0.0005)))
            replies = replies[size:]
        return not cut

    def _answer(self, command: list[bytes]) -> bytes:
        match command:
            case [word, *_] if word in self.answers:
                return self.answers[word]
            case [b"SCRIPT", b"LOAD", source]:
                sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
                self._known.add(sha)
                return b"$40\r\n%b\r\n" % sha
            case [b"EVALSHA", sha, b"1", _, name, kind]:
                if self._chance is not None and self._chance.random() < self.forgets:
                    self._known.clear()
                if sha not in self._known:
                    return b"-NOSCRIPT No matching script.\r\n"
                self.executed[name] += 1
                return _REPLIES[kind](name)
            case [b"AUTH", *words]:
                # What the worst of servers does.
                return b"-ERR unknown command AUTH, with args %b\r\n" % b" ".join(words)
            case [b"ECHO", word]:
                return bulk(word)
            case _:
                return b"+OK\r\n"


def bulk(word: bytes) -> bytes:
    """A string as the store sends it."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


_REPLIES: dict[bytes, Callable[[bytes], bytes]] = {
    b"echo": bulk,
    b"list": lambda name: b"*3\r\n%b:%d\r\n$-1\r\n" % (bulk(name), len(name)),
    b"nil": lambda _: b"$-1\r\n",
    b"error": lambda name: b"-WRONG %b script: x, on @user_script:1.\r\n" % name,
    b"readonly": lambda name: b"-READONLY %b\r\n" % name,
    b"busy": lambda name: b"-BUSY %b\r\n" % name,
}
