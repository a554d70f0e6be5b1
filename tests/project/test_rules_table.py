"""`docs/systems.md` has a row for every rule, and each row names a test that shows its rule."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.project.tree import ROOT

PAGE = ROOT / "docs" / "systems.md"
RULES = range(1, 90)

_ROW = re.compile(r"^\| R(\d+) \|(.*)\|$", re.MULTILINE)
_TEST = re.compile(r"`([\w./-]+\.py)::(\w+)`")


def problems(page: str) -> Iterator[str]:
    """All that is wrong with the table, in words."""
    seen = []
    for number, columns in _ROW.findall(page):
        rule = f"R{number}"
        seen.append(int(number))
        said, *_ = columns.split("|")
        if not said.strip():
            yield f"{rule} does not say what it is"
        shown_by = _TEST.findall(columns)
        if not shown_by:
            yield f"{rule} names no test"
        for path, name in shown_by:
            carried = rules_by_test(path).get(name)
            if carried is None:
                yield f"{rule} names {path}::{name}, which does not exist"
            elif int(number) not in carried:
                yield f"{rule} names {name}, which does not carry its number"
    for number in RULES:
        if seen.count(number) != 1:
            yield f"R{number} has {seen.count(number)} rows"
    yield from (f"R{number} is no rule" for number in seen if number not in RULES)


@cache
def rules_by_test(path: str) -> dict[str, frozenset[int]]:
    """The tests of a file, each with the numbers of the rules in its name and docstring."""
    file = ROOT / path
    if not file.is_file():
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name: _numbers(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def _numbers(test: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[int]:
    in_name = re.findall(r"(?<=_)r(\d+)(?=_|$)", test.name)
    in_text = re.findall(r"\bR(\d+)\b", ast.get_docstring(test) or "")
    return frozenset(map(int, in_name + in_text))


def test_every_rule_has_a_row_and_every_row_a_test_that_shows_it() -> None:
    assert not list(problems(PAGE.read_text(encoding="utf-8")))


def test_every_test_of_a_system_is_named_by_the_rows_of_its_rules() -> None:
    rows = {int(number): columns for number, columns in _ROW.findall(PAGE.read_text("utf-8"))}
    for file in sorted((ROOT / "tests" / "systems").glob("test_*.py")):
        for name, rules in rules_by_test(f"tests/systems/{file.name}").items():
            assert rules, f"{name} carries no number of a rule"
            assert any(f"::{name}`" in rows[rule] for rule in rules), f"no row names {name}"


_FREE = "tests/systems/test_imagineart.py::test_r36_top_ups_do_not_expire"


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"(?m)^\| R36 .*\n", "", "R36 has 0 rows"),
        (r"(?m)^(\| R36 .*\n)", r"\1\1", "R36 has 2 rows"),
        (r"(?m)^\| R36 ", "| R90 ", "R90 is no rule"),
        (r"(?m)^(\| R36 )\| [^|]*", r"\1| ", "R36 does not say what it is"),
        (f"`{_FREE}`", "shown elsewhere", "R36 names no test"),
        (f"{_FREE}", f"{_FREE}_ever", f"R36 names {_FREE}_ever, which does not exist"),
        ("test_imagineart.py(?=::test_r36)", "test_else.py", "which does not exist"),
        ("test_r36_top", "test_r37_top", "which does not exist"),
        (
            _FREE,
            "tests/systems/test_imagineart.py::test_r30_an_account_has_up_to_three_balances",
            "R36 names test_r30_an_account_has_up_to_three_balances, which does not carry its",
        ),
    ],
)
def test_a_row_that_is_wrong_is_noticed(pattern: str, replacement: str, said: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    spoilt = re.sub(pattern, replacement, page)
    found = list(problems(spoilt))
    assert spoilt != page
    assert any(said in each for each in found), found


def test_a_number_is_carried_whole() -> None:
    tests = ast.parse('def test_r36_r4_it():\n    """R17, and not of R170."""')
    [test] = tests.body
    assert isinstance(test, ast.FunctionDef)
    assert _numbers(test) == {36, 4, 17, 170}
