"""A catalog that is read again: whole or not at all, and quotes keep their price."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.app.catalogs import InForce
from creditgate_server.core.commands import Job
from tests.crash.process import channel_to, server
from tests.rpc.shop import CATALOG, IMAGE, Account, Shop, shop

DEARER = CATALOG.replace('An image at 10"\nprice = 10', 'An image at 10"\nprice = 12')
CHEAPER = CATALOG.replace('An image at 10"\nprice = 10', 'An image at 10"\nprice = 8')
assert CATALOG not in {DEARER, CHEAPER}


@pytest.fixture
def sold(tmp_path: Path) -> Iterator[tuple[Shop, Path]]:
    with shop(tmp_path) as found:
        yield found, tmp_path / "shop.toml"


def test_new_holds_have_the_new_price_and_old_ones_keep_theirs(sold: tuple[Shop, Path]) -> None:
    found, file = sold
    account = found.account(100)
    old = account.hold(IMAGE)
    file.write_text(DEARER)
    answer = account.reload_catalog()
    assert (answer.version != answer.previous_version, list(answer.problems)) == (True, [])
    assert account.get_catalog().version == answer.version
    assert account.quote(job=IMAGE).amount == 12
    assert account.settle(hold_id=old, quantity=1).charged == 10
    again = account.reload_catalog()
    assert again.version == again.previous_version == answer.version


def test_a_reload_that_fails_names_every_line_and_leaves_the_catalog(
    sold: tuple[Shop, Path],
) -> None:
    found, file = sold
    account = found.account(100)
    before = account.get_catalog()
    file.write_text(CATALOG.replace("rank = 1 }", "rank = 0 }") + '\n[actions.bad]\nprice = "x"\n')
    answer = account.reload_catalog()
    assert answer.version == answer.previous_version == before.version
    assert len(answer.problems) >= 2
    assert all(line.startswith(f"{file}:") for line in answer.problems)
    assert account.get_catalog() == before
    assert account.hold(IMAGE)
    file.unlink()
    assert account.reload_catalog().problems


@pytest.mark.parametrize(("content", "later"), [(DEARER, 12), (CHEAPER, 8)])
def test_a_quote_binds_whatever_happens_to_the_catalog(
    sold: tuple[Shop, Path], content: str, later: int
) -> None:
    found, file = sold
    account = found.account(100)
    quote = account.quote(job=IMAGE)
    assert quote.binds_until.seconds - quote.totals.as_of.seconds == 900
    file.write_text(content)
    account.reload_catalog()
    quoted = {"quoted_version": quote.catalog_version, "quoted_amount": quote.amount}
    answer = account.authorize(hold_id="h", job=IMAGE, **quoted)
    assert (answer.amount, answer.hold.catalog_version) == (10, quote.catalog_version)
    assert account.authorize(hold_id="other", job=IMAGE).amount == later


def test_a_quote_that_binds_no_more_is_denied_rather_than_exceeded(
    sold: tuple[Shop, Path],
) -> None:
    found, file = sold
    account = found.account(100)
    unknown = {"quoted_version": "shop-0", "quoted_amount": 10}
    assert account.authorize(hold_id="same", job=IMAGE, **unknown).amount == 10
    file.write_text(DEARER)
    account.reload_catalog()
    answer = account.authorize(hold_id="h", job=IMAGE, **unknown)
    assert answer.denial_reason == rs.DENIAL_REASON_PRICE_CHANGED
    assert answer.amount == 12
    # A retry is the same request, whether its quote still binds or not.
    assert account.authorize(hold_id="same", job=IMAGE, **unknown).replayed


def test_retired_catalogs_are_kept_as_long_as_quotes_bind(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(CATALOG)
    now = [1_000]
    catalogs = InForce(str(file), lambda: now[0])
    first = catalogs.current
    assert catalogs.quoted(first.version) is first
    for content in (DEARER, CHEAPER):
        file.write_text(content)
        asyncio.run(catalogs.reload())
    job = Job(action="image")
    kept = catalogs.quoted(first.version)
    assert kept is not None
    assert kept.terms(job) == first.terms(job)
    now[0] += first.quote_ms - 1
    assert catalogs.quoted(first.version) is first
    now[0] += 1
    assert catalogs.quoted(first.version) is None
    file.write_text(CATALOG)
    asyncio.run(catalogs.reload())
    assert catalogs.quoted(first.version) is catalogs.current


def test_a_signal_reads_it_again(tmp_path: Path) -> None:
    with server(tmp_path) as process, channel_to(process) as channel:
        account = Account(channel, "any")
        account.put_account()
        before = account.get_catalog().version
        (tmp_path / "shop.toml").write_text(DEARER)
        process.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while account.get_catalog().version == before:
            assert time.monotonic() < end, "in vain"
            time.sleep(0.01)
        assert account.quote(job=IMAGE).amount == 12
        assert process.end() == 0
