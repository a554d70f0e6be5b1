"""What a session promises: the same answers under their numbers, in order where it matters."""

import itertools
import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1 import error_reason_pb2 as reasons
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from creditgate_server.rpc import session
from tests.rpc.contract import request_of
from tests.rpc.shop import ONE, Account, Shop, connected, refusal, refused, shop
from tests.rpc.talk import Talk, message, operation
from tests.rpc.test_bad_input import ITEMS, VALID, prepared, valid
from tests.rpc.test_malformed import FUZZED, SEED

OWN = (("grpc.use_local_subchannel_pool", 1),)


def hold(account: Account, hold_id: str, job: rs.Job = ONE) -> Message:
    return request_of("Authorize", account_id=account.account_id, hold_id=hold_id, job=job)


def settle(account: Account, hold_id: str, **fields: Any) -> Message:
    return request_of("Settle", account_id=account.account_id, hold_id=hold_id, **fields)


def reason(result: pb.Result) -> str:
    return reasons.ErrorReason.Name(result.fault.reason).removeprefix("ERROR_REASON_")


def without_times(result: pb.Result) -> pb.Result:
    answer = getattr(result, result.WhichOneof("result") or "")
    if hasattr(answer, "totals"):
        # An Extend that is made again is another entry.
        answer.totals.ClearField("as_of")
        answer.totals.ClearField("seq")
    if hasattr(answer, "hold"):
        answer.hold.ClearField("deadline")
    if hasattr(answer, "binds_until"):
        answer.ClearField("binds_until")
    return result


@pytest.mark.parametrize("number", [n for n, (name, _) in enumerate(VALID) if name in ITEMS])
@pytest.mark.parametrize("account_id", ["", "no such account"])
def test_an_operation_is_answered_as_execute_answers_it(
    the_shop: Shop, number: int, account_id: str
) -> None:
    account = prepared(the_shop, number)
    request: Any = valid(number, account)
    request.account_id = account_id or account.account_id
    with Talk(the_shop.channel) as talk:
        talk.send((7, request))
        talk.results(1)
        talk.send((8, request))
        in_session = talk.results(1)[8]
    [in_execute] = account.execute(operations=[operation(request)]).results
    if account_id:
        assert reason(in_session) == "INVALID_FIELD"
    assert without_times(in_session) == without_times(in_execute)


def test_operations_of_one_account_in_one_message_keep_their_order(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    steps: list[Message] = []
    for number in range(50):
        steps += [hold(account, f"h{number}"), settle(account, f"h{number}")]
    with Talk(the_shop.channel) as talk:
        talk.send(*enumerate(steps))
        results = talk.results(len(steps))
    assert all(results[n].WhichOneof("result") == "authorize" for n in range(0, 100, 2))
    assert all(results[n].settle.charged == 1 for n in range(1, 100, 2)), results
    verbs = [entry.verb for entry in account.ledger()[1:]]
    assert verbs == [rs.LEDGER_VERB_AUTHORIZE, rs.LEDGER_VERB_SETTLE] * 50


def test_every_answer_has_the_number_of_its_question(the_shop: Shop) -> None:
    rng = random.Random(20_240_229)
    accounts = [the_shop.account(10_000) for _ in range(5)]
    numbers = [0, 2**64 - 1, *(rng.getrandbits(64) for _ in range(1_998))]
    asked = {n: (rng.choice(accounts), f"h-{n}") for n in numbers}
    with Talk(the_shop.channel) as talk:
        waiting = list(asked.items())
        while waiting:
            some = [waiting.pop() for _ in range(min(len(waiting), rng.randint(1, 60)))]
            talk.send(*((n, hold(account, hold_id)) for n, (account, hold_id) in some))
        results = talk.results(len(asked))
    for number, (account, hold_id) in asked.items():
        found = results[number].authorize.hold
        assert (found.account_id, found.hold_id) == (account.account_id, hold_id)
    assert sum(account.figures()[1] for account in accounts) == 2_000


def test_an_operation_of_no_kind_fails_for_itself(the_shop: Shop) -> None:
    account = the_shop.account(10)
    asked = [
        pb.SessionOperation(number=1),
        pb.SessionOperation(number=2, operation=operation(hold(account, "h"))),
    ]
    with Talk(the_shop.channel) as talk:
        talk.send_bytes(pb.SessionRequest(operations=asked).SerializeToString())
        results = talk.results(2)
    assert reason(results[1]) == "INVALID_FIELD"
    assert results[2].authorize.decision == rs.DECISION_APPROVED


BAD: list[tuple[bytes, Reason, dict[str, Any]]] = [
    (b"\xff", Reason.MALFORMED_MESSAGE, {}),
    (b"", Reason.INVALID_FIELD, {"field": "operations"}),
    (b"\x0a\x00" * 1_001, Reason.INVALID_FIELD, {"field": "operations"}),
    (
        b"\xfa\x7f" + b"\xfe\xff\x3f" + b"\x00" * (1024 * 1024 - 2),
        *(Reason.MESSAGE_TOO_LARGE, {"bytes_max": "1048576"}),
    ),
]


@pytest.mark.parametrize(
    ("body", "why", "metadata"), BAD, ids=["no message", "none", "too many", "too large"]
)
def test_a_message_that_is_none_ends_the_session_behind_the_answers(
    the_shop: Shop, body: bytes, why: Reason, metadata: dict[str, Any]
) -> None:
    account = the_shop.account(100)
    with Talk(the_shop.channel) as talk:
        talk.send(*((n, hold(account, f"h{n}")) for n in range(50)))
        talk.send_bytes(body)
        talk.send((50, hold(account, "never read")))
        talk.results(50)
        with refused(why, **metadata):
            talk.read()
    assert account.figures() == (50, 50, 0)


def test_no_bytes_crash_it_or_leak_text(the_shop: Shop) -> None:
    account, rng = the_shop.account(2**40), random.Random(SEED)
    start = message((n, hold(account, f"h{n}")) for n in range(3))
    told: set[str] = set()
    for _ in range(FUZZED // 10):
        body = bytearray(start)
        for _ in range(rng.randint(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        with Talk(the_shop.channel) as talk:
            talk.send_bytes(bytes(body[: rng.randint(1, len(body))]))
            talk.end()
            try:
                told |= {reason(each.result) for part in talk.rest() for each in part.results}
            except grpc.RpcError as error:
                told.add(refusal(error).reason.name)
    # Those without a fault have the reason 0.
    assert told <= {"UNSPECIFIED", "MALFORMED_MESSAGE", "INVALID_FIELD"} | {
        *("ACCOUNT_NOT_FOUND", "HOLD_NOT_FOUND", "ID_REUSED"),
    }
    assert told >= {"MALFORMED_MESSAGE", "INVALID_FIELD"}


@pytest.mark.parametrize("of_each", [7, 3, 1])
def test_answers_too_large_for_one_message_come_in_several(of_each: int) -> None:
    fault = pb.Result(fault=pb.Fault(message="x" * 400_000))
    results = [pb.SessionResult(number=n, result=fault) for n in range(7)]
    answers = [
        pb.SessionResponse(results=results[first : first + of_each])
        for first in range(0, 7, of_each)
    ]
    bodies = list(session._messages(answers))
    found = [pb.SessionResponse.FromString(body) for body in bodies]
    assert [each.number for response in found for each in response.results] == list(range(7))
    assert len(bodies) <= 5
    assert all(len(body) <= 1024 * 1024 for body in bodies)


def test_answers_that_are_ready_together_are_one_message() -> None:
    answers = [pb.SessionResponse(results=[pb.SessionResult(number=n)]) for n in range(7)]
    (body,) = session._messages(answers)
    assert [each.number for each in pb.SessionResponse.FromString(body).results] == list(range(7))


def test_the_largest_message_is_taken(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    with Talk(the_shop.channel) as talk:
        talk.send(*((n, hold(account, f"h{n}")) for n in range(1_000)))
        assert all(result.HasField("authorize") for result in talk.results(1_000).values())


def test_a_session_that_its_caller_ends_is_answered_first(the_shop: Shop) -> None:
    account = the_shop.account(100)
    with Talk(the_shop.channel) as talk:
        for n in range(20):
            talk.send((n, hold(account, f"h{n}")))
        talk.end()
        found = [each.number for response in talk.rest() for each in response.results]
        assert sorted(found) == list(range(20))
        assert talk.call.code() is grpc.StatusCode.OK


def test_what_a_caller_left_is_finished(the_shop: Shop) -> None:
    account = the_shop.account(1_000)
    for number in range(20):
        with Talk(the_shop.channel) as talk:
            talk.send(*((n, hold(account, f"h{number}-{n}")) for n in range(30)))
            time.sleep(number * 1e-4)
    # Each message was read as a whole, or not at all.
    wait_until(lambda: account.figures()[1] % 30 == 0)


def wait_until(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def floods(shop: Shop) -> tuple[int, float]:
    """How many operations are run for one who takes no answers, and how long another waits."""
    account, other = shop.account(2**40), shop.account(2**40)
    # Or megabytes of answers would be on their way.
    narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
    with (
        grpc.insecure_channel(f"unix:{shop.socket}", (*narrow, *OWN)) as channel,
        Talk(channel) as flood,
    ):
        for first in range(0, 10_000, 100):
            numbers = range(first, first + 100)
            flood.send(*((n, hold(account, f"h{n}")) for n in numbers))
        held = -1
        while held != (held := account.figures()[1]):
            time.sleep(0.3)
        with Talk(shop.channel) as talk:
            before = time.monotonic()
            for n in range(20):
                talk.send((n, hold(other, f"h{n}")))
                talk.results(1)
            took_s = time.monotonic() - before
        results = flood.results(10_000)
    assert all(result.HasField("authorize") for result in results.values()), "nothing is lost"
    return held, took_s


def test_a_caller_that_takes_no_answers_stalls_itself_and_nobody_else(the_shop: Shop) -> None:
    held, took_s = floods(the_shop)
    assert held < 6_000
    assert took_s < 5


def test_finishing_goes_before_starting_when_places_are_few(small: Shop) -> None:
    account = small.account(1_000)
    with Talk(small.channel) as talk:
        for n in range(6):
            account.hold(ONE, hold_id=f"old{n}")
        talk.send(
            *((n, hold(account, f"h{n}")) for n in range(20)),
            *((20 + n, settle(account, f"old{n}")) for n in range(4)),
        )
        results = talk.results(24)
    kinds = [results[n].WhichOneof("result") for n in range(24)]
    # Six of eight places are for those that start.
    assert kinds == ["authorize"] * 6 + ["fault"] * 14 + ["settle"] * 2 + ["fault"] * 2
    faults = [results[n].fault for n in range(24) if kinds[n] == "fault"]
    assert {(reason(pb.Result(fault=f)), f.credit_outcome) for f in faults} == {
        ("OVERLOADED", "not-applied")
    }
    assert account.figures()[1] == 10
    account.hold(ONE, hold_id="later")


def test_a_stalled_session_keeps_places_from_nobody(small: Shop) -> None:
    account = small.account(10_000)
    some = [hold(account, f"x{n}") for n in range(4)]
    with ExitStack() as stack:
        for _ in range(10):
            # Answered, and not read.
            stack.enter_context(Talk(small.channel)).send(*enumerate(some))
            wait_until(lambda: account.figures()[1] == 4)
        account.hold(ONE, hold_id="another")


def test_a_caller_that_takes_no_answers_holds_up_no_server_that_goes_down(tmp_path: Path) -> None:
    with ExitStack() as server:
        running = server.enter_context(shop(tmp_path, drain_s=0.5))
        account = running.account(2**40)
        with connected(running.socket) as channel, Talk(channel) as talk:
            for n in range(400):
                talk.send(*((100 * n + m, hold(account, f"h{n}-{m}")) for m in range(100)))
            wait_until(lambda: account.figures()[1] > 1_000)
            before = time.monotonic()
            server.close()
            assert time.monotonic() - before < 8


def drained(folder: Path) -> tuple[set[int], set[int], int, list[pb.SessionResponse]]:
    """A server goes down under load: the numbers sent and answered, how many holds there are."""
    sent: set[int] = set()
    responses: list[pb.SessionResponse] = []
    with ExitStack() as server:
        running = server.enter_context(shop(folder))
        account = running.account(2**40)
        with connected(running.socket) as channel, Talk(channel) as talk:
            over = threading.Event()

            def pour() -> None:
                numbers = itertools.count()
                while not over.wait(0.0005):
                    some = list(itertools.islice(numbers, 20))
                    sent.update(some)
                    talk.send(*((n, hold(account, f"h{n}")) for n in some))

            pouring = threading.Thread(target=pour)
            pouring.start()
            closing = threading.Thread(target=server.close)
            try:
                responses.append(talk.read())
                closing.start()
                with refused(Reason.SHUTTING_DOWN):
                    responses += talk.rest()
                closing.join()
            finally:
                over.set()
                pouring.join()
    with shop(folder) as running:
        account = Account(running.channel, account.account_id)
        held = account.figures()[1]
    return sent, {each.number for r in responses for each in r.results}, held, responses


def test_a_server_that_goes_down_answers_what_it_has_read(tmp_path: Path) -> None:
    """And says so: what has no answer then was not applied."""
    sent, answered, held, responses = drained(tmp_path)
    assert [n for n, response in enumerate(responses) if response.draining] == [len(responses) - 1]
    assert len(answered) == sum(len(response.results) for response in responses) == held
    assert answered < sent
