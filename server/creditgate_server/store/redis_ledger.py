"""The ledger on Redis or Valkey: one command is one script, one round trip, one atomic step."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from creditgate_server.core import schedule
from creditgate_server.core.commands import Command, Expire, ReplyT, Rules
from creditgate_server.core.faults import CreditOutcome, Fault, Reason, defect
from creditgate_server.store.address import is_cluster
from creditgate_server.store.cluster import ClusterLink
from creditgate_server.store.keys import PARTITIONS_DEFAULT, STORE, Keys
from creditgate_server.store.link import ELSEWHERE_CODES, Link, StoreError
from creditgate_server.store.script import Script, script
from creditgate_server.store.verbs import VERBS, Verb

ItemT = TypeVar("ItemT")

LAYOUT = "2"
"""The form of keys and records. A store of another layout is refused."""

TURN_DUE = "turn_due"
TURNS_MAX = 8
"""How often a command is sent while others change the account's schedule under it."""

_LIST_DUE, _FORGET, _DROP_ROW = map(script, ("list_due", "forget", "drop_row"))


# Each less than a millisecond of the store's time.
_EXPIRED_AT_ONCE = 12
_SEARCHED_AT_ONCE = 8


class StoreMismatch(Exception):
    """The store was created in another form than this server was told to use; it says which."""


class RedisLedger:
    """Implements `core.ledger.Ledger`. Any number of sidecars may share a store.

    `clock`, for tests and developer mode only, gives the time in ms that scripts use in place of
    the store's.
    """

    def __init__(
        self,
        link: Link | ClusterLink,
        keys: Keys,
        *,
        clock: Callable[[], int] | None = None,
        verbs: dict[type[Command[Any]], Verb] = VERBS,
    ) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._verbs = verbs

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        partitions: int | None = None,
        clock: Callable[[], int] | None = None,
        verbs: dict[type[Command[Any]], Verb] = VERBS,
        **limits: Any,
    ) -> "RedisLedger":
        """Connect, and create the store if it is empty.

        `partitions` counts only then (default 64); for a store that exists it must be None or what
        it was created with. `limits` are those of `Limits`. Raises `StoreError` and
        `StoreMismatch`.
        """
        way = ClusterLink if is_cluster(url) else Link
        link = await way.open(url, scripts=all_scripts(verbs), **limits)
        try:
            return cls(link, await _identify(link, partitions), clock=clock, verbs=verbs)
        except BaseException:
            await link.close()
            raise

    @property
    def link(self) -> Link | ClusterLink:
        """The way to the store, for checks of the store itself."""
        return self._link

    async def run(self, command: Command[ReplyT]) -> ReplyT:
        """Run one command; see `core.ledger.Ledger.run`."""
        verb = self._verbs[type(command)]
        try:
            reply = await self._send(verb, command, _first_turn(command))
            if reply[0] == TURN_DUE:
                reply = await self._turned(verb, command, reply)
            return cast(ReplyT, verb.read(command, reply))
        except StoreError as error:
            raise _fault(verb, error) from error

    async def _turned(self, verb: Verb, command: Command[Any], reply: Sequence[Any]) -> Any:
        """The reply once no turn is due any more: until then the command is sent again with it."""
        turns = 0
        while reply[0] == TURN_DUE:
            turn = verb.turn(command, schedule.load(reply[2]), int(reply[1]))
            if turn is None:
                break
            if turns == TURNS_MAX:
                # Others turn this account all the time; nothing of ours was applied.
                raise Fault(
                    Reason.STORE_UNAVAILABLE, "the account changes too often at once; try again"
                )
            turns += 1
            reply = await self._send(verb, command, schedule.encode(turn))
        return reply

    async def run_all(self, commands: Sequence[Command[Any]]) -> list[Any | Fault]:
        """Run many in one write; see `core.ledger.Ledger.run_all`."""
        answers: list[Any | Fault] = []
        for part in _parts(commands, self._verbs):
            answers += await self._run_part(part)
        return answers

    async def _run_part(self, commands: Sequence[Command[Any]]) -> list[Any | Fault]:
        verbs = [self._verbs[type(command)] for command in commands]
        sent = [
            self._send(verb, command, _first_turn(command))
            for verb, command in zip(verbs, commands, strict=True)
        ]
        answers: list[Any | Fault] = []
        turned: set[str] = set()
        for command, verb, coming in zip(commands, verbs, sent, strict=True):
            try:
                reply = await coming
                if command.account_id in turned:
                    # From the first that was not applied, the account's are run in order, one by
                    # one. Those that were applied, or looked too early, may be asked again.
                    answers.append(await self.run(command))
                    continue
                if reply[0] == TURN_DUE:
                    turned.add(command.account_id)
                    reply = await self._turned(verb, command, reply)
                answers.append(verb.read(command, reply))
            except StoreError as error:
                answers.append(_fault(verb, error))
            except Fault as fault:
                answers.append(fault)
            except Exception:  # noqa: BLE001 - told as a defect
                # The others have been applied, and shall be answered.
                answers.append(defect(f"the reply of {verb.script.name} cannot be read"))
        return answers

    async def expire_due(self, rules: Rules, *, limit: int = 32) -> int:
        """Return holds whose deadline has passed, up to `limit` of each partition; says how many.

        They are looked for and go back a few at a time, since whoever calls meanwhile waits for
        those before them. Any number of sidecars may do this at once: the script looks at each
        hold's state itself.
        """
        found = 0
        for partitions in _few(self._keys.partitions, _SEARCHED_AT_ONCE):
            listed = [
                self._link.evaluate(_LIST_DUE, [partition.deadlines], [self._now(), str(limit)])
                for partition in partitions
            ]
            due = []
            for reply in await _all(listed):
                for member in reply[1:]:
                    account_id, _, hold_id = member.partition("/")
                    due.append(Expire(account_id=account_id, hold_id=hold_id, rules=rules))
            for some in _few(due, _EXPIRED_AT_ONCE):
                await self.run_all(some)
            found += len(due)
        return found

    async def forget(self, *, keep_ms: int, limit: int = 200) -> int:
        """Drop records of what ended more than `keep_ms` ago.

        Looks at `limit` ledger entries of each partition and returns how many it passed: 0 when
        nothing is left to do.
        """
        asked = [
            self._link.evaluate(
                _FORGET,
                [partition.ledger, partition.closed],
                [self._now(), str(keep_ms), str(limit)],
            )
            for partition in self._keys.partitions
        ]
        passed, dropped = 0, []
        for seen, *rows in await _all(asked):
            passed += seen
            for account_id, row in zip(rows[::2], rows[1::2], strict=True):
                account = self._keys.partition_of(account_id).account(account_id)
                dropped.append(self._link.evaluate(_DROP_ROW, [account], [row]))
        await _all(dropped)
        return passed

    async def close(self) -> None:
        """Let go of the connection; what was sent is answered first."""
        await self._link.close()

    def _now(self) -> str:
        return "" if self._clock is None else str(self._clock())

    def _send(self, verb: Verb, command: Command[Any], turn: str = "") -> Any:
        partition = self._keys.partition_of(command.account_id)
        keys = verb.keys(partition, command.account_id)
        return self._link.evaluate(verb.script, keys, verb.arguments(command, self._now(), turn))


def _parts(
    commands: Sequence[Command[Any]], verbs: dict[type[Command[Any]], Verb]
) -> list[list[Command[Any]]]:
    """Cut before and after commands that bring a turn of their own: others must not pass them."""
    parts: list[list[Command[Any]]] = [[]]
    for command in commands:
        if verbs[type(command)].own_turn:
            parts += [[command], []]
        else:
            parts[-1].append(command)
    return [part for part in parts if part]


def _first_turn(command: Command[Any]) -> str:
    rules: Rules | None = getattr(command, "rules", None)
    return "?" if rules is not None and rules.plans.default else ""


def all_scripts(verbs: dict[type[Command[Any]], Verb]) -> list[Script]:
    """Every script that a connection loads before it is used."""
    return [_LIST_DUE, _FORGET, _DROP_ROW, *(verb.script for verb in verbs.values())]


def _few(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    """The items, so many at a time."""
    return (items[first : first + size] for first in range(0, len(items), size))


async def _all(replies: Sequence[Awaitable[Any]]) -> list[Any]:
    """Wait for every reply; raises the first error only then, so that none is left unasked for."""
    answers: list[Any] = []
    errors: list[StoreError] = []
    for reply in replies:
        try:
            answers.append(await reply)
        except StoreError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return answers


async def _identify(link: Link | ClusterLink, partitions: int | None) -> Keys:
    """Read what the store is, or say what it shall be. The first of several sidecars wins."""
    wanted = PARTITIONS_DEFAULT if partitions is None else partitions
    keys = Keys(wanted)
    try:
        await link.command("HSETNX", STORE, "layout", LAYOUT)
    except StoreError as error:
        if isinstance(link, Link) and error.code in ELSEWHERE_CODES:
            raise StoreMismatch(
                f"{link.where} is a node of a cluster: write redis+cluster:// (or rediss+cluster://)"
            ) from error
        raise
    await link.command("HSETNX", STORE, "partitions", str(wanted))
    layout, found = await link.command("HMGET", STORE, "layout", "partitions")
    if layout != LAYOUT:
        raise StoreMismatch(f"the store has layout {layout}, this server reads layout {LAYOUT}")
    if int(found) == wanted:
        return keys
    if partitions is not None:
        raise StoreMismatch(
            f"the store was created with {found} partitions, not {partitions}: "
            "leave the setting out"
        )
    return Keys(int(found))


def _fault(verb: Verb, error: StoreError) -> Fault:
    """The fault for a command that the store did not answer, or answered with an error."""
    if error.definite:
        return Fault(
            Reason.STORE_UNAVAILABLE, "the store is not available; nothing changed, try again"
        )
    if error.code:
        return defect(verb.script.explain(str(error)))
    return Fault(
        Reason.STORE_UNAVAILABLE,
        "the store did not answer in time; send the same request again to learn what became of it",
        outcome=CreditOutcome.UNKNOWN,
    )
