"""The story: a month of an account, in steps that a newcomer understands."""

import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import creditgate
from creditgate.v1 import resources_pb2 as pb
from creditgate_server.cli import audits, words
from creditgate_server.cli.demo.stage import Stage, credits, utc

ACCOUNT = "studio-ana"
PLAN = "basic"
MONTHLY = "monthly"
PACK = "payment-4711"

_WORKER_TTL_S = 3.0
_WAIT_S = 15.0
_BACK_WITHIN_S = 2.0


def tell(stage: Stage) -> audits.Audit:
    """Tell all of it, and check at the end that every credit is accounted for."""
    catalog = stage.server.catalog
    stage.open(
        "creditgate: credits are held before a job and settled after it",
        f"A server has started on {stage.server.address} with a store of its own, and the catalog "
        f"“{catalog.name}”. The demo is one of its clients, as your workers would be.",
    )
    with creditgate.Client(stage.server.address) as client:
        for step in (
            _two_buckets,
            _one_job_from_both,
            _partly_delivered,
            _failed,
            _sent_twice,
            _worker_killed,
            _too_expensive,
        ):
            step(stage, client)
        return _accounted_for(stage, client)


def _two_buckets(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "An account with two kinds of credits",
        "Who signs up is on the plan Free, with 50 credits for the day. Ana subscribes to Basic: "
        "1,000 credits a month instead, and what is left of the month expires at its end. She also "
        "buys a pack of 200, which never ends. Each is a bucket of its own.",
    ):
        client.put_account(ACCOUNT)
        stage.call(f"account put {ACCOUNT}", "created, on the plan free")
        subscribed = client.subscribe(ACCOUNT, "invoice-1", PLAN).account
        stage.call(f"subscribe invoice-1 {PLAN}", credits(subscribed.totals.available))
        bought = client.purchase_top_up(ACCOUNT, PACK, 200)
        stage.call(
            f"buy {PACK} 200",
            f"{credits(bought.bucket.granted)} ({words.kind(bought.bucket.kind)})",
        )
        stage.expect(
            told=bought.totals.available == 1200,
            otherwise=f"{bought.totals.available} are available",
        )


def _one_job_from_both(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "One job, paid from both",
        "Three minutes of video cost 1,080. The price is known before the job runs, and that much "
        "is set aside: first the credits that end, then the bought ones. The job succeeds and is "
        "settled.",
    ):
        job: dict[str, Any] = {
            "action": "video.generate",
            "model": "video-studio",
            "quantity": 180,
            "settings": {"resolution": "1080p"},
        }
        quote = client.quote(ACCOUNT, **job)
        stage.call(
            "quote 180 s of video in 1080p",
            f"{words.price(quote.price)}, so {credits(quote.amount)}",
        )
        held = client.authorize(ACCOUNT, "video-1", **job)
        parts = [(part.bucket_id, part.amount) for part in held.hold.slices]
        stage.call(
            "authorize video-1",
            "approved, "
            + " and ".join(f"{words.amount(amount)} from {bucket}" for bucket, amount in parts),
        )
        stage.expect(
            told=parts == [(MONTHLY, 1000), (PACK, 80)], otherwise=f"it was split as {parts}"
        )
        settled = client.settle(ACCOUNT, "video-1")
        stage.call("settle video-1", f"{credits(settled.charged)} charged")


def _partly_delivered(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "Four images ordered, three delivered",
        "The model refuses one of four images. Three are paid, at the price that was agreed; what "
        "was set aside for the fourth goes back to the bucket it came from.",
    ):
        held = client.authorize(
            ACCOUNT, "images-1", action="image.generate", model="recraft-v3-svg", quantity=4
        )
        stage.call("authorize images-1, 4 images", f"approved, {credits(held.amount)} set aside")
        settled = client.settle(ACCOUNT, "images-1", quantity=3)
        stage.call(
            "settle images-1, 3 images", f"{settled.charged} charged, {settled.returned} returned"
        )
        stage.expect(
            told=(settled.charged, settled.returned) == (6, 2),
            otherwise=f"{settled.charged} charged, {settled.returned} returned",
        )


class _OutOfMemoryError(Exception):
    """What happens to GPUs."""


def _failed(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "A job that fails costs nothing",
        "This worker runs its job inside “with client.hold(…)”. The job raises an exception, and "
        "the credits are back before the exception leaves the block.",
    ):
        with (
            suppress(_OutOfMemoryError),
            client.hold(ACCOUNT, "upscale-1", action="upscale.creative") as hold,
        ):
            stage.call("with client.hold(upscale-1)", f"{credits(hold.amount)} set aside")
            raise _OutOfMemoryError
        ended = client.get_hold(ACCOUNT, "upscale-1").hold
        state = words.name(pb.HoldState, ended.state)
        stage.call("raise OutOfMemoryError", f"{state}, {ended.charged} charged")
        stage.expect(told=state == "refunded", otherwise=f"the hold is {state}")


def _sent_twice(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "A request that is sent twice takes effect once",
        "A queue delivers a job twice, or an answer is lost on the way and the request is sent "
        "again. The same id with the same content gets the same answer. With other content it is "
        "refused.",
    ):
        first = client.authorize(ACCOUNT, "mockup-1", action="mockup.create", quantity=5)
        stage.call("authorize mockup-1, 5 mockups", f"approved, {credits(first.amount)} set aside")
        again = client.authorize(ACCOUNT, "mockup-1", action="mockup.create", quantity=5)
        stage.call(
            "authorize mockup-1, 5 mockups",
            f"the same answer, marked as replayed; {credits(again.totals.held)} set aside in all",
        )
        stage.expect(
            told=again.replayed and again.totals.held == first.amount,
            otherwise=f"{again.totals.held} are held",
        )
        try:
            client.authorize(ACCOUNT, "mockup-1", action="mockup.create", quantity=50)
        except creditgate.IdReused as refused:
            stage.call("authorize mockup-1, 50 mockups", f"refused: {refused.reason}")
        else:
            stage.expect(told=False, otherwise="other content was accepted under the same id")
        settled = client.settle(ACCOUNT, "mockup-1")
        stage.call("settle mockup-1", f"{credits(settled.charged)} charged")


def _worker_killed(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "A worker that dies",
        "A worker is a process of its own. Its hold stands for 3 seconds and is extended while it "
        "works. Then it is killed (kill -9) and can give nothing back. Nobody cleans up after it: "
        "at the deadline its credits return by themselves.",
    ):
        command = (sys.executable, "-m", "creditgate_server.cli.demo.worker")
        arguments = (stage.server.address, ACCOUNT, "video-2", str(_WORKER_TTL_S))
        with subprocess.Popen(  # noqa: S603 - it is our own program
            (*command, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the demo, which ends its worker without a word.
            start_new_session=True,
        ) as worker:
            try:
                assert worker.stdout is not None
                said = worker.stdout.readline().strip()
                stage.expect(told=said == "holding 60", otherwise=f"the worker said {said!r}")
                stage.call(f"worker {worker.pid}: with client.hold(video-2)", f"{said} credits")
                _until_extended(client, stage)
                stage.call(f"worker {worker.pid}: still working", "the hold is extended")
            finally:
                worker.kill()
        stage.call(f"kill -9 {worker.pid}", f"dead (exit status {worker.returncode})")
        late_s = _until_returned(stage, client)
        stage.call("wait", f"60 credits are back, {late_s:.2f} s after the deadline")
        stage.expect(
            told=0 <= late_s <= _BACK_WITHIN_S, otherwise=f"they returned {late_s:.2f} s late"
        )


def _until_extended(client: creditgate.Client, stage: Stage) -> None:
    first = client.get_hold(ACCOUNT, "video-2").hold.deadline
    end_s = time.monotonic() + _WAIT_S
    while client.get_hold(ACCOUNT, "video-2").hold.deadline == first:
        stage.expect(told=time.monotonic() < end_s, otherwise="the worker did not extend its hold")
        time.sleep(0.05)


def _until_returned(stage: Stage, client: creditgate.Client) -> float:
    """Watch the balance, which does not touch the hold; how late the credits were."""
    hold = client.get_hold(ACCOUNT, "video-2").hold
    stage.expect(told=hold.held == 60, otherwise=f"the dead worker holds {hold.held}")
    end_s = time.monotonic() + _WAIT_S
    with stage.countdown(f"{hold.held} held by a dead worker", _WORKER_TTL_S) as countdown:
        while (totals := client.get_balance(ACCOUNT).totals).held:
            countdown.left((utc(hold.deadline) - utc(totals.as_of)).total_seconds())
            stage.expect(told=time.monotonic() < end_s, otherwise="its credits did not return")
            time.sleep(0.05)
    ended = client.get_hold(ACCOUNT, "video-2").hold
    return (utc(ended.ended_at) - utc(ended.deadline)).total_seconds()


def _too_expensive(stage: Stage, client: creditgate.Client) -> None:
    with stage.step(
        client,
        ACCOUNT,
        "Not enough credits: an answer, with what helps",
        "A minute of video in 4k costs more than Ana has. The answer is no, nothing is set aside, "
        "and it says what would help: to wait for the next month, to buy the smallest pack that "
        "makes up what is missing, or to change to a larger plan.",
    ):
        answer = client.authorize(
            ACCOUNT,
            "video-3",
            action="video.generate",
            model="video-studio",
            quantity=60,
            settings={"resolution": "4k"},
        )
        reason = words.name(pb.DenialReason, answer.denial_reason)
        stage.call(
            "authorize video-3, 60 s of video in 4k",
            f"denied: {reason}; it costs {answer.amount}, {answer.missing} are missing",
        )
        stage.expect(told=reason == "insufficient credits", otherwise=f"it was {reason}")
        advice = [words.remedy(remedy) for remedy in answer.remedies]
        packs = ", ".join(map(words.amount, stage.server.catalog.packs))
        stage.call(f"what helps (there are packs of {packs})", "; or ".join(filter(None, advice)))
        for helps in ("wait until", "a pack of 800", "to the plan"):
            stage.expect(
                told=any(helps in each for each in advice), otherwise=f"it advised {advice}"
            )


def _accounted_for(stage: Stage, client: creditgate.Client) -> audits.Audit:
    found = audits.audit_account(client, ACCOUNT)
    stage.last_step(
        "Every credit is accounted for",
        "The ledger records every move of every credit. Added up from its first entry to its last, "
        "it must give the balance, figure by figure. “creditgate audit” does that for any account.",
        found,
    )
    return found
