"""What creditgate says of a store before it trusts it with credits."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from creditgate_server.store import embedded
from creditgate_server.store.checkup import Appendfsync, Finding, check
from creditgate_server.store.embedded import EmbeddedStore
from creditgate_server.store.link import Link, StoreError
from tests.store.fake_store import FakeStore, bulk


@pytest.fixture
async def link(own_store: EmbeddedStore) -> AsyncIterator[Link]:
    link = await Link.open(own_store.url)
    before = {
        "appendfsync": "always",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "no-appendfsync-on-rewrite": "no",
    }
    for name, value in before.items():
        await link.command("CONFIG", "SET", name, value)
    yield link
    await link.close()


@pytest.mark.parametrize("expected", ["always", "everysec", "no", None])
async def test_our_own_store_has_nothing_wrong(
    data_dir: Path, expected: Appendfsync | None
) -> None:
    with embedded.start(data_dir) as store:
        link = await Link.open(store.url)
        assert await check(link, expect_appendfsync=expected) == []
        assert await check(link) == []
        await link.close()


@pytest.mark.parametrize(
    ("setting", "value", "expected", "severity", "advice"),
    [
        ("maxmemory-policy", "allkeys-lru", "always", "refuse", "maxmemory-policy noeviction"),
        ("maxmemory-policy", "volatile-ttl", None, "refuse", "maxmemory-policy noeviction"),
        ("appendonly", "no", "always", "refuse", "appendonly yes"),
        ("appendonly", "no", "no", "refuse", "appendonly yes"),
        ("appendonly", "no", None, "warn", "appendonly yes"),
        ("appendfsync", "everysec", "always", "refuse", "appendfsync always"),
        ("appendfsync", "everysec", "everysec", None, ""),
        ("appendfsync", "everysec", None, "warn", "loses about the last second"),
        ("appendfsync", "no", "everysec", "refuse", "appendfsync everysec"),
        ("appendfsync", "no", "no", None, ""),
        ("appendfsync", "no", None, "warn", "appendfsync always"),
        ("no-appendfsync-on-rewrite", "yes", "always", "refuse", "no-appendfsync-on-rewrite no"),
        ("no-appendfsync-on-rewrite", "yes", "everysec", "refuse", "on-rewrite no"),
        ("no-appendfsync-on-rewrite", "yes", "no", None, ""),
        ("no-appendfsync-on-rewrite", "yes", None, "warn", "on-rewrite no"),
    ],
)
async def test_a_setting_changed_by_someone_is_found_with_what_to_do(
    link: Link,
    setting: str,
    value: str,
    *,
    expected: Appendfsync,
    severity: str | None,
    advice: str,
) -> None:
    await link.command("CONFIG", "SET", setting, value)
    findings = await check(link, expect_appendfsync=expected)
    assert [finding.severity for finding in findings] == ([] if severity is None else [severity])
    assert all(advice in finding.message for finding in findings)


async def test_everything_wrong_is_said_at_once(link: Link) -> None:
    await link.command("CONFIG", "SET", "appendfsync", "no")
    await link.command("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
    await link.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    assert [finding.message.split()[0] for finding in await check(link)] == [
        "maxmemory-policy",
        "appendfsync",
        "no-appendfsync-on-rewrite",
    ]


async def test_a_replica_is_refused(data_dir: Path) -> None:
    with embedded.start(data_dir) as store:
        link = await Link.open(store.url)
        await link.command("REPLICAOF", "127.0.0.1", 1)
        (finding,) = await check(link)
        assert finding.severity == "refuse"
        assert "name its primary" in finding.message
        await link.close()


@pytest.mark.parametrize(
    ("denied", "words"), [("config", "does not permit CONFIG GET"), ("info", "permit INFO")]
)
async def test_what_a_managed_store_does_not_permit_is_a_warning(
    own_store: EmbeddedStore, link: Link, denied: str, words: str
) -> None:
    await link.command("ACL", "SETUSER", "tenant", "on", ">pass", "~*", "+@all", f"-{denied}")
    tenant = await Link.open(own_store.url.replace("unix://", "unix://tenant:pass@"))
    (finding,) = await check(tenant)
    assert finding.severity == "warn"
    assert words in finding.message
    # What INFO tells is refused all the same.
    await link.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    severities = [finding.severity for finding in await check(tenant)]
    assert severities == (["refuse", "warn"] if denied == "config" else ["warn"])
    await tenant.close()
    await link.command("ACL", "DELUSER", "tenant")


INFO = "# Server\r\nredis_version:{}\r\nrole:master\r\naof_enabled:1\r\n"
CONFIG = b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n"


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("6.2.14", True),
        ("6.999.0", True),
        ("7.0.0", False),
        ("7.2.4", False),
        ("10.0.1", False),
        ("", True),
        ("seven.0", True),
        ("7", True),
    ],
)
async def test_a_store_before_7_is_refused(tmp_path: Path, version: str, *, refused: bool) -> None:
    async with FakeStore(tmp_path / "s") as store:
        store.answers = {b"INFO": bulk(INFO.format(version).encode()), b"CONFIG": CONFIG}
        link = await Link.open(store.url)
        findings = await check(link)
        await link.close()
    assert findings == (
        [Finding("refuse", f"the store is version {version or 'unknown'}: install 7.0 or later")]
        if refused
        else []
    )


@pytest.mark.parametrize("answer", [b"*0\r\n", b"-ERR unknown command\r\n", b"+what\r\n"])
async def test_a_store_without_config_is_warned_of(tmp_path: Path, answer: bytes) -> None:
    async with FakeStore(tmp_path / "s") as store:
        store.answers = {b"INFO": bulk(INFO.format("7.0.0").encode()), b"CONFIG": answer}
        link = await Link.open(store.url)
        (finding,) = await check(link)
        await link.close()
    assert finding.severity == "warn"
    assert "appendfsync is always" in finding.message


async def test_a_store_that_does_not_answer_is_no_finding(tmp_path: Path) -> None:
    async with FakeStore(tmp_path / "s") as store:
        link = await Link.open(store.url)
        store.answers = {b"INFO": b"-LOADING dataset in memory\r\n"}
        with pytest.raises(StoreError, match="LOADING"):
            await check(link)
        await link.close()
        with pytest.raises(StoreError, match="not connected"):
            await check(link)
