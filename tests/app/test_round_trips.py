"""What one request costs at the store: one round trip, and many at once share a write."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core import commands as c
from creditgate_server.store import embedded
from creditgate_server.store.link import _Connection
from creditgate_server.store.script import script
from tests.app.proxy import Proxy, proxy
from tests.rpc.shop import Account, Shop, shop

AUTHORIZE = f"EVALSHA {script('authorize').sha}"
# What a server does by itself, whether it is called or not.
OF_ITSELF = {f"EVALSHA {script(name).sha}" for name in ("list_due", "forget")}


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    with embedded.start(None) as found:
        yield Path(found.url.removeprefix("unix://"))


@pytest.fixture
def between(tmp_path: Path, store: Path) -> Iterator[tuple[Proxy, Shop]]:
    with (
        proxy(tmp_path, store) as counted,
        # One partition, so that the sweeper asks little.
        shop(tmp_path / "shop", redis=counted.url, check_s=3600, store_timeout_s=10) as found,
    ):
        yield counted, found


def asked(counted: Proxy) -> Counter[str]:
    return Counter({name: n for name, n in counted.commands().items() if name not in OF_ITSELF})


def authorize_all(account: Account, callers: int, each: int) -> None:
    started = threading.Barrier(callers)

    def run(caller: int) -> None:
        started.wait()
        for number in range(each):
            account.authorize(hold_id=f"{caller}-{number}", job=rs.Job(action="one"))

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_an_authorize_is_one_round_trip_and_nothing_else(between: tuple[Proxy, Shop]) -> None:
    counted, found = between
    account = found.account(1_000)
    counted.reads.clear()
    authorize_all(account, 1, 50)
    assert asked(counted) == {AUTHORIZE: 50}
    assert counted.reads_with(AUTHORIZE) == 50


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("charge", {"hold_id": "c", "job": rs.Job(action="one")}),
        ("extend", {"hold_id": "h"}),
        ("settle", {"hold_id": "h", "amount": 1, "partial": True, "operation_id": "p"}),
        ("quote", {"job": rs.Job(action="one")}),
        ("get_balance", {}),
        ("get_hold", {"hold_id": "h"}),
        ("list_holds", {}),
        ("settle", {"hold_id": "h"}),
        ("refund", {"hold_id": "h"}),
        ("purchase_top_up", {"payment_ref": "p", "pack_amount": 50}),
        ("set_member_limit", {"amount": 5}),
        ("grant_credits", {"source_ref": "g", "kind": rs.KIND_FREE, "amount": 1}),
        ("void_bucket", {"bucket_id": "pack"}),
        ("list_ledger", {}),
    ],
)
def test_every_method_is_one_command(
    between: tuple[Proxy, Shop], method: str, fields: dict[str, object]
) -> None:
    counted, found = between
    account = found.account(1_000)
    account.hold(hold_id="h")
    counted.reads.clear()
    getattr(account, method)(**fields)
    assert sum(asked(counted).values()) == 1


def test_an_account_is_shown_with_its_buckets_in_one_write(between: tuple[Proxy, Shop]) -> None:
    counted, found = between
    account = found.account(1_000)
    names = [f"EVALSHA {script(name).sha}" for name in ("get_account", "get_balance")]
    counted.reads.clear()
    account.get_account()
    assert asked(counted) == dict.fromkeys(names, 1)
    together = [read for read in counted.reads if any(names[0] in " ".join(c) for c in read)]
    assert len(together) == 1
    assert any(names[1] in " ".join(command) for command in together[0])


def test_a_request_that_is_refused_for_its_form_costs_the_store_nothing(
    between: tuple[Proxy, Shop],
) -> None:
    counted, found = between
    account = found.account()
    counted.reads.clear()
    results = account.execute(operations=[{"get_hold": {"hold_id": "a b"}}] * 10).results
    assert all(result.HasField("fault") for result in results)
    assert not asked(counted)


def test_the_operations_of_an_execute_leave_in_one_write(between: tuple[Proxy, Shop]) -> None:
    counted, found = between
    account = found.account(1_000)
    counted.reads.clear()
    mine = {"account_id": account.account_id, "job": {"action": "one"}}
    operations = [{"authorize": {**mine, "hold_id": f"h-{n}"}} for n in range(64)]
    account.execute(operations=operations)
    assert asked(counted) == {AUTHORIZE: 64}
    assert counted.reads_with(AUTHORIZE) == 1


async def at_once(found: Shop, account: Account, count: int) -> None:
    """As many requests as if they had come in one turn of the server's loop."""
    catalog = found.running.catalog
    job = c.Job(action="one")
    await asyncio.gather(
        *(
            found.running.ledger.run(
                c.Authorize(
                    account_id=account.account_id,
                    hold_id=f"turn-{number}",
                    job=job,
                    terms=catalog.terms(job),
                    rules=catalog.rules,
                )
            )
            for number in range(count)
        )
    )


def test_commands_of_one_turn_leave_in_one_write_on_one_connection(
    between: tuple[Proxy, Shop],
) -> None:
    counted, found = between
    account = found.account(1_000)
    counted.reads.clear()
    found.run(at_once(found, account, 64))
    assert asked(counted) == {AUTHORIZE: 64}
    assert counted.reads_with(AUTHORIZE) == 1


def test_64_callers_at_once_cost_a_command_each_and_never_more(
    between: tuple[Proxy, Shop],
) -> None:
    counted, found = between
    account = found.account(10_000)
    counted.reads.clear()
    authorize_all(account, 64, 10)
    assert asked(counted) == {AUTHORIZE: 640}
    assert counted.reads_with(AUTHORIZE) <= 640


def test_it_would_be_noticed_if_every_command_had_a_write_of_its_own(
    between: tuple[Proxy, Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush_each(self: _Connection) -> None:
        for packed in self._unwritten:
            assert self._transport is not None
            self._transport.write(packed)
            # Long enough for the other side to have read it.
            threading.Event().wait(0.001)
        self._unwritten.clear()

    counted, found = between
    account = found.account(1_000)
    monkeypatch.setattr(_Connection, "_flush", flush_each)
    counted.reads.clear()
    found.run(at_once(found, account, 64))
    assert counted.reads_with(AUTHORIZE) > 32
