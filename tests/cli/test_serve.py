"""The server as a program: how it starts, why it does not, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import creditgate
from creditgate_server.app.settings import Settings
from creditgate_server.cli.output import ExitCode
from tests.app.crew import workers_of
from tests.cli.shell import Shell

SERVE = (sys.executable, "-m", "creditgate_server.cli", "serve")


def environment(**more: str) -> dict[str, str]:
    """That of the tests, without what it may say of creditgate and of how gRPC waits."""
    plain = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("CREDITGATE_", "GRPC_EXPERIMENTS"))
    }
    return {**plain, "COLUMNS": "200", **more}


@contextmanager
def serving(*words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        (*SERVE, "--listen", "127.0.0.1:0", *words),
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            yield server
        finally:
            server.kill()


def read_until(server: subprocess.Popen[str], text: str) -> str:
    """What the server says on stderr, up to a line with this text."""
    assert server.stderr is not None
    said = ""
    for line in server.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


def refused(*words: str, code: ExitCode = ExitCode.FAULT, **env: str) -> str:
    """What a server says that does not start."""
    done = subprocess.run(
        (*SERVE, *words), env=environment(**env), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(("switches", "chosen"), [(None, True), ("", False)])
def test_its_engine_waits_for_sockets_itself_unless_the_operator_says_otherwise(
    tmp_path: Path, *, switches: str | None, chosen: bool
) -> None:
    """Else a call goes through a thread of gRPC's own, which is woken for it."""
    env = {} if switches is None else {"GRPC_EXPERIMENTS": switches}
    calls = 200
    with serving("--data", str(tmp_path / "data"), "--socket", str(tmp_path / "gate"), **env) as it:
        read_until(it, "catalog")
        with creditgate.Client(f"unix:{tmp_path / 'gate'}") as client:
            client.get_catalog()
            before = wakings(it.pid, "event_engine")
            for _ in range(calls):
                client.get_catalog()
            woken = wakings(it.pid, "event_engine") - before
    assert woken < calls / 4 if chosen else woken > calls / 2


def wakings(pid: int, name: str) -> int:
    """How often threads of this name have waited and gone on."""
    found = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        said = (thread / "status").read_text()
        if said.startswith(f"Name:\t{name}"):
            found += int(re.findall(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", said)[0])
    return found


def test_it_says_where_it_listens_answers_and_drains(tmp_path: Path) -> None:
    socket = tmp_path / "s" / "gate"
    with serving("--data", str(tmp_path / "data"), "--socket", str(socket)) as server:
        said = read_until(server, "catalog")
        assert "creditgate is ready" in said
        assert "127.0.0.1:" in said
        assert f"unix:{socket}" in said
        assert f"data in {tmp_path / 'data'}" in said
        assert "recraft, version recraft-" in said
        with creditgate.Client(f"unix:{socket}") as client:
            assert client.get_catalog().name == "recraft"
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


def test_several_workers_are_announced_once_and_write_one_log(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    with serving("--workers", "2", "--log-level", "debug", *data) as server:
        said = read_until(server, "catalog")
        assert said.count("creditgate is ready") == 1
        assert re.search(r"^workers +2$", said, re.MULTILINE)
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None
        said += server.stderr.read()
        assert server.wait(timeout=20) == 0
        assert {"process='worker 1'", "process='worker 2'"} <= set(
            re.findall(r"process='.*?'", said)
        )


def test_a_start_of_several_workers_can_be_interrupted(tmp_path: Path) -> None:
    with serving("--workers", "2", "--data", str(tmp_path / "data")) as server:
        said = read_until(server, "store started")
        while not workers_of(server.pid):
            assert server.poll() is None
            time.sleep(0.01)
        # A terminal sends it to each process.
        for pid in (*workers_of(server.pid), server.pid):
            os.kill(pid, signal.SIGINT)
        assert server.stderr is not None
        said += server.stderr.read()
        assert server.wait(timeout=20) == 0
        assert "Traceback" not in said
        assert "is ready" not in said


def test_flags_go_before_the_environment(tmp_path: Path) -> None:
    other = tmp_path / "other"
    env = {"CREDITGATE_DATA": str(tmp_path / "data"), "CREDITGATE_CATALOG": "none"}
    with serving("--data", str(other), "--catalog", "recraft", **env) as server:
        assert f"data in {other}" in read_until(server, "catalog")
    assert not (tmp_path / "data").exists()


def test_the_log_can_be_read_by_programs(tmp_path: Path) -> None:
    with serving("--data", str(tmp_path / "data"), "--log-json") as server:
        read_until(server, "catalog")
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None
        logged = [json.loads(line) for line in server.stderr]
    assert any("going down" in entry["event"] for entry in logged)
    assert {"event", "level", "logger", "timestamp"} <= logged[0].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--listen", "0.0.0.0:0"), "--insecure-listen"),
        (("--listen", "nonsense"), "host:port"),
        (("--catalog", "none"), "no such catalog"),
        (("--redis", "redis://127.0.0.1:1"), "127.0.0.1:1"),
        (("--workers", "2", "--redis", "redis://127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
def test_what_hinders_the_start_is_said_in_words(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    said = refused("--data", str(tmp_path / "data"), *words)
    assert said.count("creditgate is not running: ") == 1
    assert said.count(message) == 1


def test_a_data_directory_has_one_server(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    with serving(*data) as server:
        read_until(server, "catalog")
        assert "in use" in refused(*data, "--listen", "127.0.0.1:0")


def test_a_catalog_with_problems_is_refused_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('name = "bad"\n[kinds]\ntop_up = { rank = 0 }\n')
    assert f"{file}:3: kinds.top_up.rank" in refused("--catalog", str(file))


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (("--places", "3"), {}, "--places (or CREDITGATE_PLACES)"),
        ((), {"CREDITGATE_RECORD_DAYS": "0"}, "--record-days (or CREDITGATE_RECORD_DAYS)"),
        (("--fsync", "never"), {}, "--fsync"),
    ],
)
def test_a_setting_outside_its_range_is_wrong_usage(
    words: tuple[str, ...], env: dict[str, str], message: str
) -> None:
    assert message in refused(*words, code=ExitCode.USAGE, **env)


def test_there_is_a_flag_for_each_setting() -> None:
    said = Shell("").run("serve", "--help").stdout
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in said


def test_a_server_is_ready_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    with serving("--data", str(tmp_path / "data")) as server:
        read_until(server, "catalog")
    assert time.monotonic() - began < 10
