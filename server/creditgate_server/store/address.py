"""What a store's URL says: one server, a cluster, or the sentinels that know where the primary is.

    redis://[user:password@]host[:port][/database]             rediss:// with TLS
    unix://[user:password@]/path[?db=database]
    redis+cluster://[user:password@]host[:port],host[:port]…   rediss+cluster:// with TLS
    redis+sentinel://[user:password@]host[:port],…/service[/database]   rediss+sentinel:// with TLS

User and password are the store's. Sentinels have their own, if any: `?sentinel_password=` and
`?sentinel_username=`. With TLS, options that begin with `ssl_` mean what they mean to redis-py.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

_SENTINEL_PORT = 26379
_SEVERAL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>cluster|sentinel)://(?P<user>[^@/?#]*@)?(?P<hosts>[^@/?#]+)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server, and who we are to it."""

    where: str
    """The address, for messages."""
    path: str | None
    host: str
    port: int
    tls: ssl.SSLContext | None = field(repr=False)
    tls_options: dict[str, Any] = field(repr=False)
    """As redis-py names them."""
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises `ValueError` for a URL that cannot be used; it does not quote it."""
        options = _url_options(url)
        with_tls = options.pop("connection_class", None) is SSLConnection
        path: str | None = options.pop("path", None)
        host: str = options.pop("host", "")
        port: int = options.pop("port", 6379)
        db: int = options.pop("db", 0)
        username: str | None = options.pop("username", None)
        password: str | None = options.pop("password", None)
        if db < 0:
            raise ValueError("store URL: the number of the database is 0 or more")
        if username is not None and password is None:
            raise ValueError("store URL: a user without a password")
        if not all(with_tls and name.startswith("ssl_") for name in options):
            raise ValueError("store URL: has an option that creditgate does not know")
        return cls(
            where=path if path is not None else _where(host, port),
            path=path,
            host=host,
            port=port,
            tls=_tls_context(options) if with_tls else None,
            tls_options=options,
            db=db,
            username=username,
            password=password,
        )

    def at(self, host: str, port: int) -> Self:
        """Another server to which we are the same."""
        return replace(self, host=host, port=port, where=_where(host, port))

    async def find(self) -> "Server":
        """The server itself: it need not be looked for."""
        return self

    async def connect(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        """Raises `OSError`."""
        if self.path is not None:
            await loop.create_unix_connection(lambda: protocol, self.path)
        else:
            await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self.tls)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Some nodes of a cluster; one that answers is enough to learn of all others."""

    seeds: tuple[Server, ...]


@dataclass(frozen=True, kw_only=True)
class Sentinels:
    """Who knows where the primary of a service is. `server` is that primary but for its place."""

    sentinels: tuple[Server, ...]
    service: str
    server: Server


def parse(url: str) -> Server | Cluster | Sentinels:
    """Raises `ValueError` for a URL that cannot be used; it does not quote it."""
    if not re.match(r"rediss?\+", url):
        return Server.from_url(url)
    parts = _SEVERAL.fullmatch(url)
    if parts is None:
        raise ValueError(
            "store URL: not redis+cluster://host:port,… or redis+sentinel://host:port,…/service "
            "(characters like / # ? @ : in a password are percent-encoded)"
        )
    hosts = parts["hosts"].split(",")
    path = (parts["path"] or "").strip("/")
    options = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
    if parts["kind"] == "cluster":
        if path.strip("0") or "db" in options:
            raise ValueError("store URL: a cluster has one database: leave its number out")
        return Cluster(seeds=_servers(parts["scheme"], parts["user"], hosts, options))
    service, _, db = path.partition("/")
    if not service:
        raise ValueError("store URL: sentinels are asked for a service: …/service")
    named = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if named["username"] is not None and named["password"] is None:
        raise ValueError("store URL: a sentinel_username without a sentinel_password")
    hosts = [host if _has_port(host) else f"{host}:{_SENTINEL_PORT}" for host in hosts]
    sentinels = _servers(parts["scheme"], None, hosts, options)
    [server] = _servers(parts["scheme"], parts["user"], [f"sentinel/{db}"], options)
    return Sentinels(
        sentinels=tuple(replace(sentinel, **named) for sentinel in sentinels),
        service=service,
        server=server,
    )


def is_cluster(url: str) -> bool:
    """Whether a URL names a cluster, if it can be used at all."""
    return url.startswith(("redis+cluster:", "rediss+cluster:"))


def _servers(
    scheme: str, user: str | None, hosts: list[str], options: dict[str, str]
) -> tuple[Server, ...]:
    if not all(hosts):
        raise ValueError("store URL: a host is missing between the commas")
    query = f"?{urlencode(options)}" if options else ""
    return tuple(Server.from_url(f"{scheme}://{user or ''}{host}{query}") for host in hosts)


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")


def _where(host: str, port: int) -> str:
    return f"{host}:{port}"


def _url_options(url: str) -> dict[str, Any]:
    """What redis-py reads from a URL, without what it guesses.

    Messages never quote the URL: a password with a bare "/" or "#" ends up in any part of it.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ValueError(
            "store URL: not redis://, rediss:// or unix://, or wrongly written "
            "(characters like / # ? @ : in a password are percent-encoded)"
        ) from None
    if "#" in url:
        raise ValueError("store URL: has a bare # (write %23 if it is part of the password)")
    if parts.scheme == "unix":
        if "path" not in options or host is not None:
            raise ValueError("store URL: unix:// is followed by an absolute path (unix:///…)")
    elif host is None:
        raise ValueError("store URL: no host (a / or ? in the password is percent-encoded)")
    elif not re.fullmatch(r"[0-9]*", parts.path.strip("/")):
        raise ValueError("store URL: the path is the number of a database")
    return options


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """What redis-py would use: certificates and host names are verified unless told otherwise."""
    try:
        return SSLConnection(**options).ssl_context.get()
    except (RedisError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"store URL: TLS cannot be set up: {type(error).__name__}") from None
