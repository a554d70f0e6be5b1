"""Jobs that come and go on several accounts, and a record of every answer that was acknowledged."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import CreditOutcome, Reason
from tests.rpc.contract import path_of, request_of, response_of
from tests.rpc.shop import Account, Refusal, refusal, send

CALL_S = 5.0

# Not decided at this time: the same request is sent again.
UNDECIDED = {Reason.STORE_UNAVAILABLE, Reason.SHUTTING_DOWN, Reason.OVERLOADED}

VERBS = {
    "Authorize": rs.LEDGER_VERB_AUTHORIZE,
    "Extend": rs.LEDGER_VERB_EXTEND,
    "Settle": rs.LEDGER_VERB_SETTLE,
    "Refund": rs.LEDGER_VERB_REFUND,
    "Charge": rs.LEDGER_VERB_CHARGE,
    "GrantCredits": rs.LEDGER_VERB_GRANT,
}


@dataclass(frozen=True)
class Call:
    """One request, by the bytes that were sent."""

    method: str
    body: bytes

    @property
    def request(self) -> Any:
        return type(request_of(self.method)).FromString(self.body)


@dataclass
class Record:
    """What became of the requests: answered, or not known. Filled by many threads."""

    answered: list[tuple[Call, Any]] = field(default_factory=list)
    undecided: list[Call] = field(default_factory=list)
    faults: list[tuple[Call, Refusal]] = field(default_factory=list)

    def send(self, channel: grpc.Channel, method: str, request: Message) -> Any:
        """Call, and write down what came of it; None if nothing did."""
        call = Call(method, request.SerializeToString())
        try:
            body = send(channel, path_of(method), call.body, timeout_s=CALL_S)
        except grpc.RpcError as error:
            found = fault_of(error)
            if found is None or found.reason in UNDECIDED:
                self.undecided.append(call)
            else:
                self.faults.append((call, found))
            return None
        answer = response_of(method, body)
        self.answered.append((call, answer))
        return answer


def fault_of(error: grpc.RpcError) -> Refusal | None:
    """What the server said; None if gRPC said that the connection is lost or it took too long."""
    trailing = {item.key for item in error.trailing_metadata() or ()}
    if "credit-outcome" not in trailing:
        lost = {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.CANCELLED,
        }
        assert error.code() in lost, (error.code(), error.details())
        return None
    return refusal(error)


class Load:
    """Threads that run jobs until they are stopped, each for one account at a time.

    `pause_s` is between a thread's jobs.
    """

    def __init__(
        self, accounts: list[str], *, seed: int, threads: int = 8, pause_s: float = 0.0
    ) -> None:
        self.accounts = accounts
        self.record = Record()
        self._seed = seed
        self._threads = threads
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._running: list[threading.Thread] = []

    def start(self, channel: grpc.Channel) -> None:
        self._running = [
            threading.Thread(target=self._run, args=(channel, random.Random(f"{self._seed}/{n}")))
            for n in range(self._threads)
        ]
        for thread in self._running:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self, channel: grpc.Channel, rng: random.Random) -> None:
        while not self._stop.is_set():
            job = Job(
                channel,
                self.record,
                rng.choice(self.accounts),
                f"job-{self._seed}-{next(self._numbers)}",
                rng,
            )
            done = job.run()
            # Where the server is gone, there is nothing to hurry for.
            time.sleep(self._pause_s if done else 0.01)


@dataclass
class Job:
    """The life of one job, as a worker lives it."""

    channel: grpc.Channel
    record: Record
    account_id: str
    hold_id: str
    rng: random.Random

    def run(self) -> bool:
        """Whether all of it was answered."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.2:
            return self.ask("Charge", job={"action": "one", "quantity": rng.randint(1, 4)})
        if kind < 0.25:
            answer = self.record.send(
                self.channel,
                "GrantCredits",
                request_of(
                    "GrantCredits",
                    account_id=self.account_id,
                    source_ref=self.hold_id,
                    kind=rs.KIND_TOP_UP,
                    amount=rng.randint(1, 50),
                ),
            )
            return answer is not None
        if not self.ask("Authorize", job={"action": "one", "quantity": rng.randint(1, 9)}):
            return False
        steps: list[Callable[[], bool]] = []
        if rng.random() < 0.3:
            steps.append(lambda: self.ask("Extend", ttl={"seconds": 300}))
        if rng.random() < 0.3:
            steps.append(lambda: self.ask("Settle", operation_id="part", amount=1, partial=True))
        if rng.random() < 0.7:
            steps.append(lambda: self.ask("Settle", quantity=rng.randint(0, 9)))
            if rng.random() < 0.3:
                steps.append(lambda: self.ask("Refund", operation_id="back", amount=1))
        elif rng.random() < 0.7:
            steps.append(lambda: self.ask("Refund"))
        return all(step() for step in steps)

    def ask(self, method: str, **fields: Any) -> bool:
        request = request_of(method, account_id=self.account_id, hold_id=self.hold_id, **fields)
        return self.record.send(self.channel, method, request) is not None


# What must be true afterwards.


def lost(channel: grpc.Channel, record: Record) -> Iterator[str]:
    """Acknowledged operations that are not there, or are there otherwise."""
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda pair: _differs(channel, *pair), record.answered)
        yield from (problem for problem in found if problem)


def decide(channel: grpc.Channel, record: Record) -> Iterator[str]:
    """Send again what was not decided; what is still undecided is a problem."""
    waiting, record.undecided = record.undecided, []
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda call: record.send(channel, call.method, call.request), waiting))
    yield from (f"undecided: {call.method} {call.request}" for call in record.undecided)


# What a replay repeats; the hold and the totals are as they stand now.
REPEATED = {
    "Authorize": ("decision", "denial_reason", "amount"),
    "Charge": ("decision", "denial_reason", "amount"),
    "Settle": ("charged", "shortfall", "returned", "late"),
    "Refund": ("refunded",),
    "GrantCredits": (),
}


def _differs(channel: grpc.Channel, call: Call, answer: Any) -> str:
    if call.method == "Extend" or not applied(answer):
        # An extension has no id, a denial is not remembered: the ledger speaks for the first.
        return ""
    try:
        again = response_of(
            call.method, send(channel, path_of(call.method), call.body, timeout_s=CALL_S)
        )
    except grpc.RpcError as error:
        return f"lost: {call.method} {call.request}: {error.details()}"
    names = REPEATED[call.method]
    if not again.replayed or any(getattr(again, n) != getattr(answer, n) for n in names):
        return f"lost: {call.method} {call.request}: {answer}, then {again}"
    return ""


def applied(answer: Any) -> bool:
    """Whether the answer says that something was done."""
    decision = getattr(answer, "decision", rs.DECISION_APPROVED)
    return bool(decision == rs.DECISION_APPROVED)


def audit(account: Account, record: Record) -> Iterator[str]:
    """The ledger has no gap, nothing twice, adds up to the balance, and has all that was told."""
    try:
        entries, balance = account.ledger(), account.get_balance()
    except grpc.RpcError as error:
        yield f"lost: {account.account_id}: {error.details()}"
        return
    if [entry.seq for entry in entries] != list(range(1, len(entries) + 1)):
        yield f"{account.account_id}: the numbers of its entries have gaps"
    if balance.totals.seq != len(entries):
        yield f"{account.account_id}: {balance.totals.seq} is not its last entry"
    yield from _twice(account, entries)
    yield from _sums(account, balance, entries)
    yield from _missing(account, entries, record)


def _twice(account: Account, entries: list[rs.LedgerEntry]) -> Iterator[str]:
    once = {rs.LEDGER_VERB_AUTHORIZE: "hold", rs.LEDGER_VERB_CHARGE: "hold"}
    ids = Counter(
        (once.get(entry.verb, entry.verb), entry.hold_id, entry.operation_id)
        for entry in entries
        if entry.hold_id and entry.verb != rs.LEDGER_VERB_EXTEND
    )
    grants = Counter(
        move.bucket_id
        for entry in entries
        if entry.verb == rs.LEDGER_VERB_GRANT
        for move in entry.moves
        if getattr(move, "from") == rs.FIGURE_GRANTED
    )
    for name, count in (ids + grants).items():
        if count > 1:
            yield f"{account.account_id}: {name} took effect {count} times"


FIGURES = {
    rs.FIGURE_GRANTED: "granted",
    rs.FIGURE_AVAILABLE: "available",
    rs.FIGURE_HELD: "held",
    rs.FIGURE_SPENT: "spent",
    rs.FIGURE_EXPIRED: "expired",
    rs.FIGURE_VOIDED: "voided",
}


def _sums(account: Account, balance: Any, entries: list[rs.LedgerEntry]) -> Iterator[str]:
    folded: dict[str, Counter[str]] = {}
    for entry in entries:
        for move in entry.moves:
            row = folded.setdefault(move.bucket_id, Counter())
            source, target = FIGURES[getattr(move, "from")], FIGURES[move.to]
            row[source] += move.amount if source == "granted" else -move.amount
            row[target] += move.amount
    for bucket in balance.buckets:
        shown = {name: getattr(bucket, name) for name in FIGURES.values()}
        summed = {name: folded.get(bucket.bucket_id, Counter())[name] for name in shown}
        if shown != summed:
            yield f"{account.account_id}: {bucket.bucket_id} shows {shown}, its moves give {summed}"
        if shown["granted"] != sum(shown.values()) - shown["granted"]:
            yield f"{account.account_id}: {bucket.bucket_id} is not conserved: {shown}"
        if min(shown.values()) < 0:
            yield f"{account.account_id}: {bucket.bucket_id} is below zero: {shown}"
    if folded.keys() != {bucket.bucket_id for bucket in balance.buckets}:
        yield f"{account.account_id}: buckets and ledger name different ones"
    held = sum(hold.held for hold in account.open_holds())
    totals = balance.totals
    sums = [sum(getattr(b, name) for b in balance.buckets) for name in ("available", "held")]
    if [totals.available, totals.held, totals.held] != [*sums, held]:
        yield f"{account.account_id}: totals {totals}, buckets {sums}, open holds {held}"


def _missing(account: Account, entries: list[rs.LedgerEntry], record: Record) -> Iterator[str]:
    """Each first answer carries the number of its own entry."""
    for call, answer in record.answered:
        request = call.request
        if request.account_id != account.account_id or not applied(answer):
            continue
        if getattr(answer, "replayed", False):
            continue
        seq = answer.totals.seq
        entry = entries[seq - 1] if 0 < seq <= len(entries) else rs.LedgerEntry()
        found = entry.verb, entry.hold_id, entry.operation_id
        expected = (
            VERBS[call.method],
            getattr(request, "hold_id", ""),
            getattr(request, "operation_id", ""),
        )
        if found != expected:
            yield f"lost: {call.method} {request} was entry {seq}; there stands {found}"


def told_the_truth(record: Record) -> Iterator[str]:
    """A fault with a definite answer is one that a job of this kind can get."""
    expected = {Reason.HOLD_NOT_FOUND, Reason.ACCOUNT_NOT_FOUND, Reason.REFUND_EXCEEDS_CHARGE} | {
        Reason.HOLD_SETTLED,
        Reason.HOLD_REFUNDED,
        Reason.HOLD_EXPIRED,
    }
    for call, found in record.faults:
        if found.reason not in expected or found.outcome is not CreditOutcome.NOT_APPLIED:
            yield f"{call.method} {call.request}: {found}"
