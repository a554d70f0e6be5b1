"""The answers of an execute, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from creditgate import _faults
from creditgate.calls import Call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from creditgate.errors import Fault
    from creditgate.v1.credits_pb2 import ExecuteResponse, Result


def answers(
    operations: Iterable[Call[Any] | Message], response: ExecuteResponse
) -> list[Message | Fault]:
    """Give the answer of each operation: its response message, or the `Fault` it ended with.

    ```python
    for call, answer in zip(operations, answers(operations, client.execute(operations))):
        if isinstance(answer, OutcomeUnknown):
            again.append(call)
    ```
    Faults are not raised, because the other operations have taken effect. Denials are answers.
    """
    asked = [each if isinstance(each, Call) else Call[Any](each) for each in operations]
    return [_answer(call, result) for call, result in zip(asked, response.results, strict=True)]


def _answer(call: Call[Any], result: Result) -> Message | Fault:
    which = result.WhichOneof("result")
    if which == "fault":
        return _faults.of_operation(result.fault).fault(call)
    if which is None:
        raise ValueError(f"the server left {call.method.name} without an answer")
    answer: Message = getattr(result, which)
    return answer
