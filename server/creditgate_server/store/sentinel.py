"""Where the primary of a service is, by its sentinels."""

from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from creditgate_server.store.address import Sentinels, Server

# One that does not answer must not take the time of the next.
_ANSWER_S = 0.5


class Primary:
    """The primary of a service, wherever it is: asked for each time, since it moves."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._sentinels = sentinels.sentinels
        self._service = sentinels.service
        self._server = sentinels.server
        asked = ", ".join(sentinel.where for sentinel in self._sentinels)
        self.where = f"service {self._service!r} of {asked}"

    async def find(self) -> Server:
        """The server that is the primary. Raises `LookupError` that says why none is known."""
        async with Sentinel(  # type: ignore[no-untyped-call]
            [(sentinel.host, sentinel.port) for sentinel in self._sentinels],
            sentinel_kwargs=self._options(),
        ) as watch:
            try:
                host, port = await watch.discover_master(self._service)
            except (RedisError, OSError):
                raise LookupError(await self._why(watch.sentinels)) from None
            answered = [
                (
                    asked.connection_pool.connection_kwargs["host"],
                    asked.connection_pool.connection_kwargs["port"],
                )
                for asked in watch.sentinels
            ]
        # The one that knew is asked first the next time: others may be down.
        self._sentinels = tuple(
            sorted(self._sentinels, key=lambda one: answered.index((one.host, one.port)))
        )
        return self._server.at(host, port)

    def _options(self) -> dict[str, object]:
        first = self._sentinels[0]
        return {
            "username": first.username,
            "password": first.password,
            "ssl": first.tls is not None,
            **first.tls_options,
            "socket_timeout": _ANSWER_S,
            "socket_connect_timeout": _ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
        }

    async def _why(self, sentinels: list[Redis]) -> str:
        """What is wrong, for people: asked only when the primary was not found."""
        known: set[str] = set()
        problems = []
        for server, sentinel in zip(self._sentinels, sentinels, strict=True):
            try:
                known.update(cast(dict[str, object], await sentinel.sentinel_masters()))
            except AuthenticationError:
                problems.append(f"{server.where} refuses our log-in (see ?sentinel_password=)")
            except ResponseError:
                problems.append(f"{server.where} is no sentinel")
            except RedisTimeoutError:
                problems.append(f"{server.where} does not answer")
            except (RedisConnectionError, OSError):
                problems.append(f"{server.where} is not reachable")
        if self._service in known:
            return f"the primary of {self._service!r} is down, and no other has been chosen yet"
        if known:
            names = ", ".join(sorted(known))
            return f"the sentinels know no service {self._service!r}: they know {names}"
        return "no sentinel can be asked: " + ("; ".join(problems) or "they know no service at all")
