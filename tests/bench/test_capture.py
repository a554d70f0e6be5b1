"""What the server sends to the store is seen whole, and can be sent for others."""

import hiredis
import pytest
import redis

from creditgate_server.bench.capture import Captured, account_key, capture

HOLD = "run-00001-000000007"


def reader_of(packed: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(packed)
    found: list[bytes] = reader.gets()
    return found


def test_a_command_is_seen_byte_by_byte(store_url: str) -> None:
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))
    odd = bytes(range(256)) + b' "] \\x41 [0 lua] \r\n' + HOLD.encode()
    seen = capture(client, lambda: client.set("a key", odd), "acct-1", HOLD)
    assert seen.words == (b"SET", b"a key", odd)
    assert seen.name == "set"
    client.delete("a key")
    client.close()


def test_what_a_script_does_is_no_command_of_the_server(store_url: str) -> None:
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))
    script = "return redis.call('SET', KEYS[1], ARGV[1])"
    seen = capture(client, lambda: client.eval(script, 1, "a key", HOLD), "acct-1", HOLD)
    assert seen.name == "eval"
    client.delete("a key")
    client.close()


@pytest.mark.parametrize("count", [0, 2])
def test_one_command_is_expected(count: int, store_url: str) -> None:
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))

    def act() -> None:
        for _ in range(count):
            client.set("a key", HOLD)

    with pytest.raises(AssertionError, match=f"there were {count}"):
        capture(client, act, "acct-1", HOLD)
    client.delete("a key")
    client.close()


def test_a_command_is_made_for_another_account_and_hold() -> None:
    one, other = "acct-0001", "acct-0002"
    assert account_key(one).split("}")[0] != account_key(other).split("}")[0]
    words = ("EVALSHA", "x", "1", account_key(one), one, HOLD, f"{one}/{HOLD}", f"h:{HOLD}")
    seen = Captured(words=tuple(word.encode() for word in words), account_id=one, hold_id=HOLD)
    later = "run-00002-000000009"
    made = [word.decode() for word in reader_of(seen.packed(other, later))]
    assert made[3:] == [account_key(other), other, later, f"{other}/{later}", f"h:{later}"]
    assert not any(one in word or HOLD in word for word in made)
