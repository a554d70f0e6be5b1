"""What was acknowledged survives kill -9 of the server, of its store, and of both."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.crash.load import Load, audit, decide, lost, told_the_truth
from tests.crash.process import Server, begin, channel_to
from tests.rpc.shop import Account

ROUNDS = int(os.environ.get("CREDITGATE_KILL_ROUNDS", "10"))
SEED = 20_250_331
ACCOUNTS = [f"account-{number}" for number in range(4)]
KILLS = ("server", "store", "both")


def kill(found: Server, what: str) -> None:
    """Only ever the processes of this server."""
    if what in ("store", "both"):
        found.kill_store()
    if what in ("server", "both"):
        found.kill()


def open_accounts(found: Server) -> None:
    with channel_to(found) as channel:
        for account_id in ACCOUNTS:
            account = Account(channel, account_id)
            account.put_account()
            account.grant("start", 100_000)


def round_of(
    folder: Path, number: int, running: Server, *, plant: str
) -> tuple[Server, list[str], int]:
    """Load, kill, start again, compare: the new server, what is wrong, how many acknowledged."""
    rng = random.Random(f"{SEED}/{number}")
    what = KILLS[number % len(KILLS)]
    load = Load(ACCOUNTS, seed=number)
    with channel_to(running) as channel:
        load.start(channel)
        time.sleep(rng.uniform(0.1, 0.5))
        kill(running, what)
        # The workers go on for a moment, as they would.
        time.sleep(rng.uniform(0.0, 0.1))
        load.stop()
    if what == "store":
        # It notices by itself that its store is gone, and ends.
        assert running.process.wait(20) != 0
    found = begin(folder, plant=plant, unsafe_store=bool(plant))
    record = load.record
    problems: list[str] = []
    with channel_to(found) as channel:
        acknowledged = len(record.answered)
        problems += lost(channel, record)
        problems += decide(channel, record)
        for account_id in ACCOUNTS:
            problems += audit(Account(channel, account_id), record)
    problems += told_the_truth(record)
    return (
        found,
        [f"round {number}, {what} killed: {problem}" for problem in problems],
        acknowledged,
    )


@pytest.mark.timeout(60 + 15 * ROUNDS)
def test_what_was_acknowledged_survives_kills(tmp_path: Path) -> None:
    running = begin(tmp_path)
    try:
        open_accounts(running)
        acknowledged = 0
        for number in range(ROUNDS):
            running, problems, count = round_of(tmp_path, number, running, plant="")
            assert not problems, "\n".join(problems)
            acknowledged += count
        assert acknowledged > 50 * ROUNDS, "the load was too light to show anything"
        assert running.end() == 0
    finally:
        if running.process.poll() is None:
            running.kill()


@pytest.mark.parametrize(
    ("plant", "number"),
    # A killed server that answered too early has lost it, however safe the store is.
    [("early", 0), ("forgetful", 2)],
)
def test_it_would_be_noticed(tmp_path: Path, plant: str, number: int) -> None:
    running = begin(tmp_path, plant=plant, unsafe_store=True)
    try:
        open_accounts(running)
        running, problems, _ = round_of(tmp_path, number, running, plant=plant)
    finally:
        if running.process.poll() is None:
            running.kill()
    assert any(": lost: " in problem for problem in problems), problems
