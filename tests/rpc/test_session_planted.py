"""Each of these defects of a session is noticed by a test of `test_session`."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from creditgate.v1 import credits_pb2 as pb
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.rpc import session
from creditgate_server.rpc.admission import Admission
from creditgate_server.rpc.session import Run, _Session
from creditgate_server.rpc.stream import Stream
from tests.rpc import test_session
from tests.rpc.shop import Shop

_INIT = _Session.__init__


def running(planted: Callable[[Run], Run]) -> Any:
    """Sessions whose operations are run so."""

    def init(self: _Session, stream: Stream, run: Run, admission: Admission) -> None:
        _INIT(self, stream, planted(run), admission)

    return init


def backwards(run: Run) -> Run:
    return lambda operations, results: run(operations, results[::-1])


def in_any_order(run: Run) -> Run:
    return lambda operations, results: run(operations[::-1], results[::-1])


async def left_behind(self: _Session) -> None:
    """Goes down without waiting for what is under way."""
    await self._stream.write(b"")
    reading = asyncio.ensure_future(self._read())
    with self._admission.told_of_close(reading.cancel):
        await asyncio.wait([reading])
    self._left = True
    await self._stream.write(pb.SessionResponse(draining=True).SerializeToString())
    raise Fault(Reason.SHUTTING_DOWN, "the server is going down; try again")


PLANTED: dict[str, tuple[Any, str, Any, Callable[[Shop], None]]] = {
    "no bound": (
        *(session, "IN_FLIGHT_MAX", 10**9),
        test_session.test_a_caller_that_takes_no_answers_stalls_itself_and_nobody_else,
    ),
    "answers swapped": (
        *(_Session, "__init__", running(backwards)),
        test_session.test_every_answer_has_the_number_of_its_question,
    ),
    "no order": (
        *(_Session, "__init__", running(in_any_order)),
        test_session.test_operations_of_one_account_in_one_message_keep_their_order,
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_defect_is_noticed(the_shop: Shop, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, instead, notice = PLANTED[what]
    monkeypatch.setattr(place, name, instead)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        notice(the_shop)


def test_a_drain_that_leaves_answers_behind_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Session, "serve", left_behind)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_session.test_a_server_that_goes_down_answers_what_it_has_read(tmp_path)


def test_places_that_go_with_the_answers_are_noticed(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _Session._write

    async def planted(self: _Session) -> None:
        for _ in self._ready:
            self._admission.enter("Settle")
        await write(self)

    monkeypatch.setattr(_Session, "_write", planted)
    with pytest.raises((AssertionError, grpc.RpcError)):
        test_session.test_a_stalled_session_keeps_places_from_nobody(small)
