"""Bytes that are no requests: mutated, nested, oversized; each has an answer of its own."""

import os
import random
from collections.abc import Callable, Iterator

import grpc
import pytest

from creditgate_server.core.faults import CreditOutcome, Reason
from tests.rpc.contract import METHODS, READS, path_of, request_of, response_of
from tests.rpc.shop import Account, Refusal, Shop, refusal, refused, send
from tests.rpc.test_bad_input import LEAK, VALID, prepared, valid

SEED = 20_240_229
FUZZED = int(os.environ.get("CREDITGATE_FUZZ", "2000"))

AUTHORIZE = "/creditgate.v1.Credits/Authorize"

ANSWERS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def nested(depth: int) -> bytes:
    """Groups within groups, of a number that no field has."""
    return b"\xfb\x07" * depth + b"\xfc\x07" * depth


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("a field without its value", b"\x0a"),
        ("a length beyond the end", b"\x0a\x7fabc"),
        ("a length of 2^64 - 1", b"\x0a" + b"\xff" * 9 + b"\x01"),
        ("a number without an end", b"\x28" + b"\xff" * 11),
        ("a tag of field 0", b"\x00"),
        ("a wire type that there is not", b"\x0f"),
        ("an end without a beginning", b"\xfc\x07"),
        ("a string that is not UTF-8", b"\x0a\x02\xc3\x28"),
        ("a surrogate", b"\x0a\x03\xed\xa0\x80"),
        ("groups 10,000 deep", nested(10_000)),
        ("zeros", b"\x00" * 64),
        ("text", b"GET / HTTP/1.1\r\n\r\n"),
        ("a job that is a number", b"\x1a\x01\x08"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_bytes_that_are_no_request_are_told_so(the_shop: Shop, what: str, body: bytes) -> None:
    assert what
    with refused(Reason.MALFORMED_MESSAGE):
        send(the_shop.channel, AUTHORIZE, body)


def test_fields_that_we_do_not_know_are_passed_over(the_shop: Shop) -> None:
    account = the_shop.account(7)
    known = request_of("GetBalance", account_id=account.account_id).SerializeToString()
    body = send(the_shop.channel, path_of("GetBalance"), known + b"\xfa\x07\x03abc" + nested(20))
    assert response_of("GetBalance", body).totals.available == 7


def test_a_message_may_have_64_kib_and_no_byte_more(the_shop: Shop) -> None:
    padding = 64 * 1024 - 5

    def padded(size: int) -> bytes:
        # A field that nobody knows: a tag of two bytes, a length of three.
        assert 2**14 <= size < 2**21
        length = bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14))
        return b"\xfa\x07" + length + b"a" * size

    assert len(padded(padding)) == 64 * 1024
    with refused(Reason.INVALID_FIELD):
        send(the_shop.channel, AUTHORIZE, padded(padding))
    with refused(Reason.MESSAGE_TOO_LARGE, bytes_max="65536"):
        send(the_shop.channel, AUTHORIZE, padded(padding + 1))
    with refused(Reason.INVALID_FIELD, field="operations"):
        send(the_shop.channel, "/creditgate.v1.Credits/Execute", padded(1024 * 1024 - 5))
    with refused(Reason.MESSAGE_TOO_LARGE, bytes_max="1048576"):
        send(the_shop.channel, "/creditgate.v1.Credits/Execute", padded(1024 * 1024 - 4))


def flip(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body or b"\x00")
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def insert(body: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(body) + 1)
    return body[:at] + rng.randbytes(rng.choice((1, 2, 5, 64))) + body[at:]


def repeat(body: bytes, rng: random.Random) -> bytes:
    return body * rng.choice((2, 2, 3, 50))


def extreme(body: bytes, rng: random.Random) -> bytes:
    """A number field, with a value of up to ten bytes."""
    number = rng.choice((1, 2, 3, 4, 5, 6, 7, 8))
    value = rng.choice((0, 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1))
    encoded = bytearray([number << 3])
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return body + bytes(encoded)


def noise(_body: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 8, 64, 1024)))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    flip,
    cut,
    insert,
    repeat,
    extreme,
    noise,
)


def mutated(account: Account, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Requests with something wrong in them, each for its own method or for any."""
    requests = [(VALID[n][0], valid(n, account).SerializeToString()) for n in range(len(VALID))]
    while True:
        method, body = rng.choice(requests)
        if rng.random() < 0.1:
            method = rng.choice(list(METHODS))
        if rng.random() < 0.1:
            body += rng.choice(requests)[1]
        yield method, rng.choice(MUTATIONS)(body, rng)


def outcome_of(the_shop: Shop, method: str, body: bytes) -> Refusal | None:
    try:
        send(the_shop.channel, path_of(method), body)
    except grpc.RpcError as error:
        return refusal(error)
    return None


def test_no_bytes_crash_it_leak_text_or_change_what_they_are_refused_to(the_shop: Shop) -> None:
    rng = random.Random(SEED)
    account = prepared(the_shop, 12)
    account.grant("more", 1_000_000)
    before = account.state()
    answered = 0
    for number, (method, body) in zip(range(FUZZED), mutated(account, rng), strict=False):
        told = f"message {number} of seed {SEED}: {method} {body.hex()}"
        refused_with = outcome_of(the_shop, method, body)
        if refused_with is None:
            answered += 1
            before = before if method in READS else account.state()
            continue
        assert refused_with.code in ANSWERS, told
        assert refused_with.outcome is CreditOutcome.NOT_APPLIED, told
        assert not LEAK.search(refused_with.message), told
        assert number % 4 or account.state() == before, told
    # Some mutations leave a request that is as good as before; most do not.
    assert 0 < answered < FUZZED * 0.8
    assert account.state() == before
    audit(account)


def audit(account: Account) -> None:
    """The balance is what the ledger adds up to, and the numbers have no gaps."""
    entries = account.ledger()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    totals = account.get_balance().totals
    assert totals.seq == len(entries)
    last = entries[-1]
    assert (last.available_after, last.held_after, last.debt_after) == account.figures()
