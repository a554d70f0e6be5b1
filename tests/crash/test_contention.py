"""Many callers at once want the same credits: all of them are given, and not one more."""

import random
import threading
from pathlib import Path

import grpc
import pytest

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from tests.crash.process import channel_to, server
from tests.rpc.shop import Account, refusal

CALLERS = 64
CREDITS = 1_000


@pytest.mark.parametrize("largest", [1, 10])
def test_64_callers_get_exactly_what_is_there(tmp_path: Path, largest: int) -> None:
    """They go on, with smaller and smaller jobs, until not even one credit is to be had."""
    given: list[int] = []

    def want(account: Account, caller: int) -> None:
        rng = random.Random(caller)
        most, number = largest, 0
        while most:
            number += 1
            quantity = rng.randint(1, most)
            answer = account.authorize(
                hold_id=f"{caller}-{number}", job=rs.Job(action="one", quantity=quantity)
            )
            if answer.decision == rs.DECISION_APPROVED:
                given.append(answer.amount)
            else:
                assert answer.denial_reason == rs.DENIAL_REASON_INSUFFICIENT_CREDITS
                most = quantity - 1

    with server(tmp_path) as running, channel_to(running) as channel:
        account = Account(channel, "hot")
        account.put_account()
        account.grant("pack", CREDITS)
        threads = [threading.Thread(target=want, args=(account, n)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert account.figures() == (0, CREDITS, 0)
        assert len(account.open_holds()) == len(given)
    assert sum(given) == CREDITS


def test_ten_requests_for_three_credits_on_three_start_one_job(tmp_path: Path) -> None:
    approved: list[str] = []

    def want(account: Account, caller: int) -> None:
        answer = account.authorize(hold_id=f"job-{caller}", job=rs.Job(action="one", quantity=3))
        if answer.decision == rs.DECISION_APPROVED:
            approved.append(answer.hold.hold_id)

    with server(tmp_path) as running, channel_to(running) as channel:
        account = Account(channel, "poor")
        account.put_account()
        account.grant("pack", 3)
        threads = [threading.Thread(target=want, args=(account, n)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        [hold] = account.open_holds()
        assert [hold.hold_id] == approved


def test_of_many_settles_and_refunds_of_one_hold_one_wins(tmp_path: Path) -> None:
    """The losers are told who won, with the figures that count."""
    told: list[Reason | str] = []

    def end(account: Account, hold_id: str, caller: int) -> None:
        method = "Settle" if caller % 2 else "Refund"
        try:
            answer = account.call(method, hold_id=hold_id, operation_id=f"end-{caller}")
        except grpc.RpcError as error:
            found = refusal(error)
            assert found.metadata["hold_id"] == hold_id
            told.append(found.reason)
        else:
            told.append(f"{method} of {answer.hold.amount}")

    with server(tmp_path) as running, channel_to(running) as channel:
        account = Account(channel, "raced")
        account.put_account()
        account.grant("pack", 1_000)
        for race in range(20):
            told.clear()
            hold_id = account.hold(hold_id=f"race-{race}")
            threads = [threading.Thread(target=end, args=(account, hold_id, n)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            hold = account.get_hold(hold_id=hold_id).hold
            if hold.state == rs.HOLD_STATE_REFUNDED:
                assert told.count("Refund of 10") == 1
                assert told.count(Reason.HOLD_REFUNDED) == 7
            else:
                # A settled hold may be refunded, once and whole; the refunds after that give 0.
                assert told.count("Settle of 10") == 1
                assert told.count(Reason.HOLD_SETTLED) == 3
                assert (hold.charged, hold.refunded in (0, 10)) == (10, True)
