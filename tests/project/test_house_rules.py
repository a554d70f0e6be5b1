"""The rules of the house hold in the whole tree, and each can fail."""

import re
import subprocess

import pytest

from tests.project.house import CLOSED_DOORS, ENTRY, RULES, File, Rule
from tests.project.tree import ROOT, files

CORE = "server/creditgate_server/core/it.py"
STORE = "server/creditgate_server/store/it.py"
RPC = "server/creditgate_server/rpc/it.py"
SERVICE = "server/creditgate_server/rpc/credits.py"
SESSION = "server/creditgate_server/rpc/session.py"
ENGINE = "server/creditgate_server/engines/it.py"
APP = "server/creditgate_server/app/it.py"
CATALOGS = "server/creditgate_server/catalogs/it.py"
CLIENT = "client/creditgate/it.py"
SCRIPT = "server/creditgate_server/store/lua/it.lua"
PAGE = "docs/it.md"

HEAD = """\
-- Do it.
--   KEYS     1 account
--   ARGV     1 n
--   reply    { outcome }
--   outcome  refused | approved
local account, n = KEYS[1], ARGV[1]

"""
GOOD_SCRIPT = (
    HEAD
    + """\
if redis.call('HGET', account, n) then return answer(a, 'refused') end
put(a, 'b:' .. n, '1')
return answer(a, 'approved')
"""
)
COMMIT = "local function commit(a)\n  redis.call('HSET', a, 1)\n  redis.call('HDEL', a, 2)\nend\n"

# Each line: the rule, where the file would stand, what it says, and what is right instead.
BELOW = "-- Write. From here on it must succeed.\nredis.call('SET', k, v)\nf(k)"
COUNTEREXAMPLES = [
    ("imports_go_one_way", CORE, "import grpc", "import enum"),
    ("imports_go_one_way", CORE, "from google.protobuf import message", "import json"),
    ("imports_go_one_way", CORE, "import asyncio", "import hashlib"),
    ("imports_go_one_way", CORE, "from creditgate_server import rpc", "import creditgate_server.core"),
    ("imports_go_one_way", CORE, "import redis.asyncio", "import redistribution"),
    ("imports_go_one_way", CORE, "def f():\n    import redis", "def f(): ..."),
    ("imports_go_one_way", STORE, "from creditgate.v1 import credits_pb2", "import redis"),
    ("imports_go_one_way", STORE, "import grpc.aio", "import asyncio"),
    ("imports_go_one_way", RPC, "from redis import asyncio", "from grpc import StatusCode"),
    ("imports_go_one_way", RPC, "import asyncio", "import creditgate_server.core"),
    ("imports_go_one_way", RPC, "from grpc import aio", "import grpc"),
    ("imports_go_one_way", ENGINE, "from creditgate_server.store import link", "import asyncio, grpc.aio"),
    ("imports_go_one_way", APP, "from creditgate_server import cli", "import creditgate_server.store.link"),
    ("imports_go_one_way", CATALOGS, "import redis", "import tree_sitter"),
    ("imports_go_one_way", RPC, "import creditgate_server.store.keys", "import creditgate.v1"),
    ("imports_go_one_way", SERVICE, "import asyncio", "import creditgate_server.core.ledger"),
    ("imports_go_one_way", SESSION, "import grpc.aio", "import asyncio"),
    ("imports_go_one_way", SERVICE, "import grpc", "from creditgate.v1 import credits_pb2"),
    ("imports_go_one_way", CLIENT, "import creditgate_server.core", "import grpc"),
    ("only_the_entry_point_reads_the_environment", CORE, "import os\nos.environ['A']", "import os"),
    ("only_the_entry_point_reads_the_environment", STORE, "os.environ.get('CREDITGATE_A')", "os.environ.get('XDG_RUNTIME_DIR')"),
    ("only_the_entry_point_reads_the_environment", RPC, "from os import getenv", "from os import path"),
    ("modules_say_what_they_are_for", CORE, "x = 1", '"""What it is for."""\nx = 1'),
    ("times_are_named_with_their_unit", CORE, "timeout = 5", "timeout_ms = 5"),
    ("times_are_named_with_their_unit", CORE, "hold_ttl: int | None", "hold_ttl_ms: int | None"),
    ("times_are_named_with_their_unit", CORE, "self.grace = 1.5", "grace, found = match"),
    ("times_are_named_with_their_unit", CLIENT, "def f(delay: float): ...", "def f(delay: timedelta): ..."),
    ("nothing_is_left_half_done", CORE, "x = 1  # TODO: two", "x = 2"),
    ("nothing_is_left_half_done", SCRIPT, "local settleV2", "local settle"),
    ("nothing_is_left_half_done", PAGE, "the Legacy path", "the path"),
    ("no_path_belongs_to_one_machine", PAGE, "see `/home/me/creditgate`", "see `/data`"),
    ("no_path_belongs_to_one_machine", "Dockerfile", "COPY /root/it /it", "COPY it /it"),
    ("nothing_says_where_packages_come_from", PAGE, "from https://packages.org/it", "https://a.example"),
    ("nothing_says_where_packages_come_from", "constraints.txt", "--index-url x", "it==1.0"),
    ("lines_are_short", SCRIPT, "-- " + "x" * 118, "-- " + "x" * 117),
    ("scripts_begin_with_their_signature", SCRIPT, HEAD.replace("-- Do it.\n", ""), HEAD),
    ("scripts_begin_with_their_signature", SCRIPT, HEAD.replace("--   ARGV     1 n\n", ""), HEAD),
    ("arguments_are_named_in_the_head", SCRIPT, HEAD + "local m = ARGV[2]", HEAD + "local m = n"),
    ("arguments_are_named_in_the_head", SCRIPT, HEAD + "local m = unpack(ARGV, 2)", GOOD_SCRIPT),
    ("scripts_return_the_outcomes_they_announce", SCRIPT, GOOD_SCRIPT.replace("'refused'", "'no'"), GOOD_SCRIPT),
    ("scripts_return_the_outcomes_they_announce", SCRIPT, GOOD_SCRIPT.replace("refused |", "late | refused |"), GOOD_SCRIPT),
    ("keys_are_not_made_in_scripts", SCRIPT, "redis.call('GET', account .. ':x')", "f(account)"),
    ("keys_are_not_made_in_scripts", SCRIPT, "redis.call('GET', 'x:' .. a.key)", "f('h:' .. hold.id)"),
    ("keys_are_not_made_in_scripts", SCRIPT, "local k = 'creditgate:{0}:x'", "-- creditgate:{0}:x"),
    ("only_commit_writes", SCRIPT, "redis.call('HSET', account, n, 1)\n" + GOOD_SCRIPT, GOOD_SCRIPT),
    ("only_commit_writes", SCRIPT, COMMIT + "redis.call('HSET', account, n, 1)", COMMIT),
    ("only_commit_writes", SCRIPT, "redis.call(verb, a)", "redis.call('TIME')"),
    ("only_commit_writes", SCRIPT, "redis.call('ZREM', d, m)\ntake(a)", "redis.call('ZREM', d, m)\nreturn { 'x' }"),
    ("only_commit_writes", SCRIPT, "open_account(a)\n" + BELOW, BELOW),
    ("scripts_are_exact", SCRIPT, "return tostring(n)", "return text(n)"),
    ("scripts_are_exact", SCRIPT, "cjson.decode(s)", "-- cjson.decode(s)"),
    ("scripts_are_exact", SCRIPT, "local now = os.time()", "local now = a.now"),
    ("no_key_ends_by_itself", SCRIPT, "redis.call('PEXPIRE', account, 1)", "record(a, 'expire', hold)"),
]  # fmt: skip

BY_NAME = {rule.name: rule for rule in RULES}


def every(rule: Rule) -> list[str]:
    return [
        problem
        for path in files()
        if rule.concerns(path)
        for problem in rule.broken_by(File(path, (ROOT / path).read_text()))
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    broken = every(rule)
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(("name", "path", "wrong", "right"), COUNTEREXAMPLES)
def test_the_rule_catches_its_counterexample(name: str, path: str, wrong: str, right: str) -> None:
    rule = BY_NAME[name]
    assert rule.concerns(path)
    assert rule.broken_by(File(path, wrong)), "the rule sees nothing wrong"
    assert not rule.broken_by(File(path, right)), "the rule refuses what is right"


def test_every_rule_has_a_counterexample() -> None:
    assert {name for name, *_ in COUNTEREXAMPLES} == BY_NAME.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_rule_looks_at_something(rule: Rule) -> None:
    assert any(rule.concerns(path) for path in files())


@pytest.mark.parametrize("room", [*CLOSED_DOORS, ENTRY.rstrip("/")])
def test_the_rooms_that_rules_name_exist(room: str) -> None:
    assert any(path.startswith((f"{room}/", f"{room}.py")) for path in files())


def test_commit_messages_say_nothing_of_one_machine() -> None:
    log = subprocess.run(
        ["git", "-c", "safe.directory=*", "log", "--format=%B"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rule = BY_NAME["no_path_belongs_to_one_machine"]
    assert not rule.broken_by(File("log", log))
    assert re.search(r"\S", log)
