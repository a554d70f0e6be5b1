"""Serve until told to stop: what `creditgate serve` does, with a planted defect if one is named.

Run as `python -m tests.crash.runner SETTINGS_AS_JSON [DEFECT]`. Prints its address when ready.
"""

import asyncio
import functools
import json
import logging
import sys
from typing import Any

from creditgate_server.app import server, worker, workers
from creditgate_server.app.control import Follows, Shared
from creditgate_server.app.settings import Settings
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.store.redis_ledger import RedisLedger

EARLY_S = 0.1


class EarlyLedger(RedisLedger):
    """Planted: a charge is acknowledged before the store has been asked."""

    late: set["asyncio.Task[Any]"] = set()  # noqa: RUF012 - of the one ledger there is

    async def run(self, command: c.Command[c.ReplyT]) -> c.ReplyT:
        """Answer with what will most likely come of it."""
        if not isinstance(command, c.Charge) or command.terms is None:
            return await super().run(command)
        task = asyncio.create_task(self._run_late(command))
        self.late.add(task)
        task.add_done_callback(self.late.discard)
        account = await super().run(
            c.GetAccount(account_id=command.account_id, rules=command.rules)
        )
        answer: Any = r.Authorized(
            decision=r.Decision.APPROVED,
            amount=command.terms.amount,
            hold=None,
            missing=0,
            replayed=False,
            totals=account.totals,
        )
        return answer  # type: ignore[no-any-return]

    async def _run_late(self, command: c.Command[Any]) -> None:
        await asyncio.sleep(EARLY_S)
        await super().run(command)


async def forgetful(ledger: RedisLedger) -> None:
    """Planted: the store keeps nothing on its disk."""
    await ledger.link.command("CONFIG", "SET", "appendonly", "no")


class Deaf(worker.Follower):
    """Planted: a worker that says it follows, and does not."""

    async def follow(self) -> None:
        """Throw away what all shall do."""
        receive = self._channel.receive

        async def deaf() -> object | None:
            while isinstance(message := await receive(), Shared):
                self._channel.send(Follows(message.number))
            return message

        vars(self._channel)["receive"] = deaf
        await super().follow()


def prepare(plant: str) -> None:
    """What comes first in each process."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if plant == "early":
        vars(server)["RedisLedger"] = EarlyLedger
    if plant == "deaf":
        vars(worker)["Follower"] = Deaf
    if plant == "impatient":
        vars(workers).update(FOLLOW_S=0.3, AGAIN_S=0.3)


def main() -> None:
    """Serve with the settings of the command line."""
    settings, plant = Settings(**json.loads(sys.argv[1])), "".join(sys.argv[2:3])
    prepare(plant)
    planted = set()

    def on_ready(running: server.Running | workers.Serving) -> None:
        if plant == "forgetful" and isinstance(running, server.Running):
            planted.add(asyncio.ensure_future(forgetful(running.ledger)))
        print(running.address, flush=True)  # noqa: T201 - whoever started us waits for it
        sys.stdout.close()

    if settings.workers == 1:
        asyncio.run(server.serve(settings, on_ready))
    else:
        begin = functools.partial(prepare, plant)
        asyncio.run(workers.serve(settings, on_ready, prepare=begin))


if __name__ == "__main__":
    main()
