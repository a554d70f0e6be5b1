"""The one door to the accounts."""

from collections.abc import Sequence
from typing import Any, Protocol

from creditgate_server.core.commands import Command, ReplyT
from creditgate_server.core.faults import Fault


class Ledger(Protocol):
    """Keeps accounts. Each command is decided and applied in one atomic step, or not at all."""

    async def run(self, command: Command[ReplyT]) -> ReplyT:
        """Run one command. Raises `Fault`; after one of outcome UNKNOWN, run the same again."""
        ...

    async def run_all(self, commands: Sequence[Command[Any]]) -> list[Any | Fault]:
        """Run many, those of one account in the order given; a fault stands for its answer."""
        ...
