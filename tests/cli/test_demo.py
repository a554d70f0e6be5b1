"""The demo tells its story in time, and does not tell what is not true."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from creditgate_server.cli.demo import story
from creditgate_server.cli.output import ExitCode
from creditgate_server.store import embedded
from tests.cli.shell import Shell

DEMO = (sys.executable, "-m", "creditgate_server.cli", "demo")


def run_demo(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*DEMO, *words), capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


def test_the_demo_ends_in_time_with_every_credit_accounted_for(tmp_path: Path) -> None:
    began = time.monotonic()
    # What the environment says of a real server must not touch the demo's.
    done = run_demo(
        CREDITGATE_REDIS="redis://127.0.0.1:1",
        CREDITGATE_CATALOG="none",
        CREDITGATE_ADDRESS="127.0.0.1:1",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert time.monotonic() - began < 15
    assert not done.stderr
    assert "\x1b" not in done.stdout
    said = " ".join(done.stdout.split())
    assert (
        "every credit is accounted for: 1,250 granted = "
        "104 available + 0 held + 1,096 spent + 50 expired + 0 voided" in said
    )
    assert "approved, 1,000 from monthly and 80 from payment-4711" in said
    assert "6 charged, 2 returned" in said
    assert "refunded, 0 charged" in said
    assert "refused: ID_REUSED" in said
    assert "exit status -9" in said
    assert "in monthly; or buy a pack of 800; or change to the plan advanced or pro" in said
    assert not list(tmp_path.glob("creditgate-*"))


def test_the_demo_as_data_has_the_balance_and_the_new_entries_of_each_step() -> None:
    done = run_demo("--json")
    assert done.returncode == ExitCode.OK, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert [step["number"] for step in told["steps"]] == list(range(1, 9))
    *steps, last = told["steps"]
    assert all(step["title"] and step["text"] and step["calls"] for step in steps)
    seqs = [int(entry["seq"]) for step in steps for entry in step["entries"]]
    assert seqs == list(range(1, last["audit"]["entries"] + 1))
    spent = [sum(int(bucket["spent"]) for bucket in step["balance"]["buckets"]) for step in steps]
    assert spent == [0, 1080, 1086, 1086, 1096, 1096, 1096]
    killed = [entry["verb"].removeprefix("LEDGER_VERB_") for entry in steps[5]["entries"]]
    assert killed[0], killed[-1] == ("AUTHORIZE", "EXPIRE")
    assert last["audit"]["sums"]["granted"] == 1250


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    # Where the tests run in the background of a shell, programs are born deaf to Ctrl-C.
    hearing = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from creditgate_server.cli import main; main()"
    )
    with subprocess.Popen(
        (sys.executable, "-u", "-c", hearing, "demo"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert any("holding 60" in line for line in demo.stdout)
        assert list(tmp_path.glob("creditgate-demo-*"))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=20) == 130
        assert demo.stderr is not None
        assert not demo.stderr.read()
    assert not list(tmp_path.glob("creditgate-*"))


def test_a_story_that_is_not_true_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another plan would pay the whole first job.
    monkeypatch.setattr(story, "PLAN", "pro")
    result = Shell("127.0.0.1:1").run("demo", code=ExitCode.FAULT)
    assert "the demo failed" in result.stderr


def test_a_store_that_does_not_start_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: Any, **_more: Any) -> embedded.EmbeddedStore:
        raise embedded.StoreStartError("there is no program to start")

    monkeypatch.setattr(embedded, "start", fails)
    result = Shell("127.0.0.1:1").run("demo", code=ExitCode.FAULT)
    assert "the demo failed: there is no program to start" in result.stderr
