"""What a URL says of the store, and what is refused."""

import ssl

import pytest

from creditgate_server.store.address import Cluster, Sentinels, Server, parse


def server_of(url: str) -> Server:
    found = parse(url)
    assert isinstance(found, Server)
    return found


@pytest.mark.parametrize(
    ("url", "where", "db", "username", "password"),
    [
        ("redis://store", "store:6379", 0, None, None),
        ("redis://store:7000/2", "store:7000", 2, None, None),
        ("redis://:p%40ss@store/0", "store:6379", 0, None, "p@ss"),
        ("redis://me:p%2Fss@[::1]:1?db=4", "::1:1", 4, "me", "p/ss"),
        ("unix:///run/store.sock?db=1", "/run/store.sock", 1, None, None),
        ("unix:///a%20b/%C3%BC", "/a b/ü", 0, None, None),
    ],
)
def test_a_url_says_where_the_store_is(
    url: str, where: str, db: int, username: str | None, password: str | None
) -> None:
    server = server_of(url)
    assert (server.where, server.db, server.username, server.password, server.tls) == (
        where,
        db,
        username,
        password,
        None,
    )


def test_tls_verifies_the_store_unless_told_otherwise() -> None:
    tls = server_of("rediss://store").tls
    assert tls is not None
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
    loose = server_of("rediss://store?ssl_cert_reqs=none").tls
    assert loose is not None
    assert loose.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store",
        "http://store",
        "redis://",
        "redis://store/abc",
        "redis://store/1/2",
        "redis://store:port",
        "redis://store?db=x",
        "redis://store?db=-1",
        "redis://store?retry_on_timeout=yes",
        "redis://store?ssl_cert_reqs=none",
        "redis://user@store",
        "rediss://store?ssl_ca_certs=/absent",
        "rediss://store?ssl_cert_reqs=maybe",
        "unix://run/store.sock",
        "unix:///run/store#1.sock",
        "unix://",
        # Characters of a password that make it something else.
        "redis://:12/s3cr3t@store",
        "redis://:12#s3cr3t@store",
        "redis://:12?s3cr3t@store",
        "redis://:s3cr3t/34@store",
        "redis://:s3cr3t#34@store",
        "redis://:s3cr3t@store?ssl_keyfile=s3cr3t",
        "redis://:s3cr3t@store?s3cr3t=1",
        "redis://[s3cr3t@store",
        # Several servers.
        "redis+cluster://",
        "redis+cluster://a,,b",
        "redis+cluster://a:1,b:port",
        "redis+cluster://a:1,b:2/1",
        "redis+cluster://a:1,b:2?db=1",
        "redis+cluster://user@a",
        "redis+cluster://a?retry=1",
        "redis+cluster://:12/s3cr3t@a,b",
        "redis+cluster://:12#s3cr3t@a,b",
        "redis+cluster://:12@s3cr3t@a,b",
        "redis+cluster:/a",
        "redis+proxy://a",
        "unix+cluster:///a",
        "redis+sentinel://a,b",
        "redis+sentinel://a,b/",
        "redis+sentinel:///service",
        "redis+sentinel://a/service/db",
        "redis+sentinel://a/service/1/2",
        "redis+sentinel://a/service?sentinel_username=s3cr3t",
        "redis+sentinel://a/service?s3cr3t=1",
        "redis+sentinel://:s3cr3t/1@a/service",
        "rediss+sentinel://a/service?ssl_ca_certs=/absent",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="store URL") as caught:
        parse(url)
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "s3cr3t" not in str(shown)
        shown = shown.__cause__ if shown.__suppress_context__ else shown.__context__


def places(servers: tuple[Server, ...]) -> list[tuple[str, str | None, str | None, bool]]:
    return [(s.where, s.username, s.password, s.tls is not None) for s in servers]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+cluster://a", [("a:6379", None, None, False)]),
        (
            "redis+cluster://me:p%40ss@a:1,[::1]:2,c",
            [
                ("a:1", "me", "p@ss", False),
                ("::1:2", "me", "p@ss", False),
                ("c:6379", "me", "p@ss", False),
            ],
        ),
        (
            "rediss+cluster://:pw@a,b/0?ssl_cert_reqs=none",
            [
                ("a:6379", None, "pw", True),
                ("b:6379", None, "pw", True),
            ],
        ),
    ],
)
def test_a_url_names_some_nodes_of_a_cluster(url: str, expected: list[object]) -> None:
    found = parse(url)
    assert isinstance(found, Cluster)
    assert places(found.seeds) == expected


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "server", "db"),
    [
        (
            "redis+sentinel://a,b:1,[::1]/mymaster",
            [(f"{where}", None, None, False) for where in ("a:26379", "b:1", "::1:26379")],
            "mymaster",
            (None, None, False),
            0,
        ),
        (
            "redis+sentinel://me:pw@a/credits/2?sentinel_username=w&sentinel_password=p%2Fw",
            [("a:26379", "w", "p/w", False)],
            "credits",
            ("me", "pw", False),
            2,
        ),
        (
            "rediss+sentinel://:pw@a/credits?ssl_cert_reqs=none&sentinel_password=x",
            [("a:26379", None, "x", True)],
            "credits",
            (None, "pw", True),
            0,
        ),
    ],
)
def test_a_url_names_sentinels_and_their_service(
    url: str, sentinels: list[object], service: str, server: tuple[object, ...], db: int
) -> None:
    found = parse(url)
    assert isinstance(found, Sentinels)
    assert places(found.sentinels) == sentinels
    assert found.service == service
    [(_, *who)] = places((found.server,))
    assert (*who, found.server.db) == (*server, db)
    assert "pw" not in repr(found)
    assert "p/w" not in repr(found)
