"""What a store must be, and must stay, for the promises to hold: asked at the start and then again.

Somebody can change the settings of a running store, and a managed one has settings of its own.
"""

from dataclasses import dataclass, replace
from typing import Literal

from creditgate_server.store.cluster import ClusterLink
from creditgate_server.store.link import Link, StoreError

Appendfsync = Literal["always", "everysec", "no"]
"""When the store syncs its file: before it answers, once a second, or when the system likes to."""

_OLDEST_VERSION = (7, 0)
# The stronger the later.
_APPENDFSYNC: tuple[Appendfsync, ...] = ("no", "everysec", "always")
_WHAT_IS_LOST: dict[Appendfsync, str] = {
    "no": "what the system has not written yet",
    "everysec": "about the last second",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the store; the message says what to do about it.

    `refuse`: credits are not safe in it, nothing may be authorized. `warn`: worth saying once.
    """

    severity: Literal["refuse", "warn"]
    message: str


async def check(
    link: Link | ClusterLink, *, expect_appendfsync: Appendfsync | None = "always"
) -> list[Finding]:
    """What is wrong with the store, in a stable order; nothing if all is well.

    `expect_appendfsync` is the least that is wanted. None: the operator takes any durability,
    and is told what it is. Of a cluster, every primary is looked at. Raises `StoreError` if the
    store does not answer.
    """
    await link.follow()
    found = [(one.where, await _check_one(one, expect_appendfsync)) for one in link.links]
    findings: list[Finding] = []
    if link.links[0].fails_over and not link.replicas:
        findings.append(
            Finding(
                "warn",
                "replicas are not waited for, so a failover may lose what was answered OK: set "
                "--replicas to the number of replicas of each primary",
            )
        )
    for where, those in found:
        # Of one store, nobody asks which.
        named = len(found) > 1
        findings += [replace(f, message=f"{where}: {f.message}") if named else f for f in those]
    return findings


async def _check_one(link: Link, expect_appendfsync: Appendfsync | None) -> list[Finding]:
    info = _fields(await _answer(link, "INFO"))
    if not info:
        return [
            Finding("warn", "the store does not permit INFO: permit it, nothing could be checked")
        ]
    findings = []
    version = info.get("redis_version", "")
    if not _is_new_enough(version):
        findings.append(
            Finding("refuse", f"the store is version {version or 'unknown'}: install 7.0 or later")
        )
    if info.get("role", "master") != "master":
        findings.append(
            Finding("refuse", "the store is a replica and takes no writes: name its primary")
        )
    if info.get("cluster_enabled") == "1" and not link.of_cluster:
        findings.append(
            Finding("refuse", "the store is a node of a cluster: write redis+cluster://")
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        findings.append(
            Finding(
                "refuse",
                f"maxmemory-policy is {policy}, so a full store would forget accounts: "
                "set it to noeviction (CONFIG SET maxmemory-policy noeviction, "
                "and in the store's configuration)",
            )
        )
    findings += await _check_durability(link, info, expect_appendfsync)
    return findings + _check_replicas(link.replicas, int(info.get("connected_slaves", "0")))


def _check_replicas(wanted: int, there: int) -> list[Finding]:
    if there < wanted:
        return [
            Finding(
                "refuse",
                f"it has {there} replicas and {wanted} are waited for: start the others, or set "
                "--replicas to fewer",
            )
        ]
    if wanted and there > wanted:
        return [
            Finding(
                "warn",
                f"it has {there} replicas and {wanted} are waited for, so a failover to another "
                f"may lose what was answered OK: set --replicas to {there}",
            )
        ]
    return []


async def _check_durability(
    link: Link, info: dict[str, str], expected: Appendfsync | None
) -> list[Finding]:
    severity: Literal["refuse", "warn"] = "warn" if expected is None else "refuse"
    if info.get("aof_enabled") == "0":
        # Even if no sync is asked for, since a file is.
        return [
            Finding(
                severity,
                "appendonly is no, so a restart of the store loses credits: "
                "set it to yes (CONFIG SET appendonly yes, and in the store's configuration)",
            )
        ]
    settings = _pairs(await _answer(link, "CONFIG", "GET", "*append*"))
    appendfsync = settings.get("appendfsync", "")
    if appendfsync not in _APPENDFSYNC:
        return [
            Finding(
                "warn",
                "the store does not permit CONFIG GET: see with whoever runs it that appendfsync "
                f"is {expected or 'what you want'}",
            )
        ]
    wanted = expected or "always"
    findings = []
    if _APPENDFSYNC.index(appendfsync) < _APPENDFSYNC.index(wanted):
        findings.append(
            Finding(
                severity,
                f"appendfsync is {appendfsync}, so a power cut loses {_WHAT_IS_LOST[appendfsync]}: "
                f"set it to {wanted} (CONFIG SET appendfsync {wanted}, and in the store's "
                "configuration), or allow the weaker one",
            )
        )
    if wanted != "no" and settings.get("no-appendfsync-on-rewrite", "no") != "no":
        findings.append(
            Finding(
                severity,
                "no-appendfsync-on-rewrite is yes, so nothing is synced while the store rewrites "
                "its file: set it to no (CONFIG SET no-appendfsync-on-rewrite no, and in the "
                "store's configuration)",
            )
        )
    return findings


async def _answer(link: Link, *command: str) -> object:
    """The reply; None if the store does not permit or know the command."""
    try:
        return await link.command(*command)
    except StoreError as error:
        # Managed stores take a command away by the access list or by its name.
        if error.code in ("NOPERM", "ERR"):
            return None
        raise


def _fields(reply: object) -> dict[str, str]:
    if not isinstance(reply, str):
        return {}
    return dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)


def _pairs(reply: object) -> dict[str, str]:
    if not isinstance(reply, list):
        return {}
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _is_new_enough(version: str) -> bool:
    numbers = version.split(".")[:2]
    return (
        len(numbers) == 2
        and all(number.isdecimal() for number in numbers)
        and tuple(map(int, numbers)) >= _OLDEST_VERSION
    )
