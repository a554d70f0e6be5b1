"""A worker's process for a long time: both clients of the library, in threads and in tasks.

Run as `python -m tests.engines.soaking ADDRESS SECONDS`. Prints what was acknowledged as JSON:
operations by account and verb.
"""

import asyncio
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter

from creditgate import AsyncClient, Client

TASKS = 16
THREADS = 4
ACCOUNTS = 8


def main(address: str, seconds: float) -> None:
    """Work, and then tell."""
    end = time.monotonic() + seconds
    done: Counter[str] = Counter()
    numbers = itertools.count()
    with Client(address) as client:
        for number in range(ACCOUNTS):
            client.put_account(f"soaked-{number}")
            client.grant_credits(f"soaked-{number}", "start", kind="top_up", amount=2**50)
            done[f"soaked-{number} GRANT"] += 1
        threads = [
            threading.Thread(target=_thread, args=(client, end, numbers, done))
            for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        asyncio.run(_tasks(address, end, numbers, done))
        for thread in threads:
            thread.join(60)
    print(json.dumps(done))  # noqa: T201 - whoever started us reads it


def _thread(
    client: Client, end: float, numbers: "itertools.count[int]", done: Counter[str]
) -> None:
    rng = random.Random(next(numbers))
    while time.monotonic() < end:
        account, hold_id = f"soaked-{rng.randrange(ACCOUNTS)}", f"thread-{next(numbers)}"
        with client.hold(account, hold_id, action="one", quantity=5) as hold:
            done[f"{account} AUTHORIZE"] += 1
            if rng.random() < 0.5:
                hold.settle(quantity=rng.randrange(1, 6))
        # Left without a word, it is settled as well.
        done[f"{account} SETTLE"] += 1


async def _tasks(
    address: str, end: float, numbers: "itertools.count[int]", done: Counter[str]
) -> None:
    async with AsyncClient(address) as client:
        await asyncio.gather(*(_task(client, end, numbers, done) for _ in range(TASKS)))


async def _task(
    client: AsyncClient, end: float, numbers: "itertools.count[int]", done: Counter[str]
) -> None:
    rng = random.Random(next(numbers))
    while time.monotonic() < end:
        account, hold_id = f"soaked-{rng.randrange(ACCOUNTS)}", f"task-{next(numbers)}"
        if rng.random() < 0.3:
            await client.charge(account, hold_id, action="one", quantity=2)
            done[f"{account} CHARGE"] += 1
            continue
        await client.authorize(account, hold_id, action="one", quantity=3)
        done[f"{account} AUTHORIZE"] += 1
        await client.get_balance(account)
        if rng.random() < 0.5:
            await client.settle(account, hold_id)
            done[f"{account} SETTLE"] += 1
        else:
            await client.refund(account, hold_id)
            done[f"{account} REFUND"] += 1


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
