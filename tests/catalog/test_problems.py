"""A file that is no catalog: every problem is found, on its line, with its field."""

import contextlib
import random
import re
from importlib import resources
from pathlib import Path

import pytest

from creditgate_server.catalogs import reader
from tests.catalog.draft import HEAD, catalog, text, whole

HERE = Path(__file__).parent
RECRAFT = (resources.files("creditgate_server.catalogs") / "recraft.toml").read_text("utf-8")


def problems(content: str) -> tuple[reader.Problem, ...]:
    with pytest.raises(reader.CatalogError) as caught:
        whole(content)
    return caught.value.problems


_, *SECTIONS = (HERE / "problems.txt").read_text("utf-8").split("### ")
CASES = dict(section.split("\n", 1) for section in SECTIONS)


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_found_on_its_line(name: str) -> None:
    content = text(CASES[name])
    [(number, said)] = (
        (number, line.partition("#! ")[2])
        for number, line in enumerate(content.splitlines(), 1)
        if "#! " in line
    )
    [problem] = problems(content)
    assert str(problem) == f"draft.toml:{number}: {said}"


def priced(price: str) -> str:
    return f'[actions.x]\ntitle = "X"\nunit = "x"\nprice = {price}\n'


def named(name: str) -> str:
    return f'[actions."{name}"]\ntitle = "X"\nunit = "x"\nprice = 1\n'


ALLOWED = [
    ("the_highest_rate", priced("9_007_199_254")),
    ("nine_digits_after_the_point", priced("0.000000001")),
    ("zeros_beyond_them", priced("0.0000000010000")),
    ("a_fraction_of_a_credit_as_rate", priced("0.5")),
    ("a_negative_zero", priced("-0.0")),
    ("settings_with_a_rate_of_0", priced("{ flat = 1, rate = 0 }\nsettings.s.factors.a = 1")),
    ("the_highest_factor", priced("1\nsettings.s.factors.a = 1_000_000")),
    ("a_factor_of_0", priced("1\nsettings.s.factors.a = 0")),
    ("nine_decimals", "[credit]\ndecimals = 9\n" + priced("{ flat = 0.000000001 }")),
    ("the_finest_division", priced("{ rate = 0.000000001, per = 4_503_599 }")),
    ("a_name_of_128_letters", named("x" * 128)),
    ("a_name_of_every_sort", named("A-z_0.9:x")),
    ("equal_ranks", "[kinds]\nfree = { rank = 1 }"),
    ("rank_9", "[kinds]\nfree = { rank = 9 }"),
    ("a_pack_of_1", "[top_ups]\npacks = [1]"),
    ("a_ttl_that_equals_its_max", '[hold]\nttl = "60 s"\nttl_max = "1min"'),
    ("the_shortest_ttl", '[hold]\nttl = "1 s"'),
    ("the_longest_ttl", '[hold]\nttl = "720 h"\nttl_max = "30 d"'),
    ("models_that_no_action_takes", '[models.m]\nunit = "image"\nprice = 1'),
    (
        "a_chain_of_equal_models",
        '[models]\na.same_as = "b"\nb.same_as = "c"\nc = { price = 1, unit = "image" }',
    ),
]


@pytest.mark.parametrize("section", [pytest.param(row, id=name) for name, row in ALLOWED])
def test_what_is_just_within_bounds_is_a_catalog(section: str) -> None:
    assert catalog(section).actions


NAMES = [
    ("one_letter_too_many", "x" * 129, "x" * 129),
    ("no_letter", "", '""'),
    ("a_second_line", "x\\n", '"x\\n"'),
    ("a_quote", 'x\\"', '"x\\""'),
]


@pytest.mark.parametrize(("name", "spelled"), [pytest.param(*row, id=n) for n, *row in NAMES])
def test_a_name_fits_into_an_id(name: str, spelled: str) -> None:
    [problem] = problems(text(named(name)))
    assert problem.field == f"actions.{spelled}"
    assert problem.message == "a name is 1 to 128 of A-Z a-z 0-9 _ . : -"


KINDS = "kinds.free.rank = 1\n"
ACTIONS = 'actions.x = { title = "X", price = 0, unit = "x" }\n'
WHOLE = [
    ("no_name", KINDS + ACTIONS, ["name"]),
    ("an_empty_name", 'name = ""\n' + KINDS + ACTIONS, ["name"]),
    ("a_name_of_64_letters", f'name = "{"x" * 64}"\n' + ACTIONS, ["kinds"]),
    ("a_name_of_65_letters", f'name = "{"x" * 65}"\n' + KINDS + ACTIONS, ["name"]),
    ("no_actions", 'name = "x"\n' + KINDS, ["actions"]),
    ("empty_tables", 'name = "x"\n[kinds]\n[actions]', ["kinds", "actions"]),
    ("nothing_at_all", "", ["name", "kinds", "actions"]),
]


@pytest.mark.parametrize(
    ("content", "fields"), [pytest.param(*row, id=name) for name, *row in WHOLE]
)
def test_a_file_needs_a_name_kinds_and_actions(content: str, fields: list[str]) -> None:
    assert [problem.field for problem in problems(content)] == fields


def test_a_way_into_a_circle_ends() -> None:
    section = 'models = { a.same_as = "b", b.same_as = "c", c.same_as = "b" }\n'
    messages = {problem.field: problem.message for problem in problems(section + text(""))}
    assert messages == {
        "models.a.same_as": "a circle: a = b = c = b",
        "models.b.same_as": "a circle: b = c = b",
        "models.c.same_as": "a circle: c = b = c",
    }


def test_a_price_of_several_models_is_one_problem() -> None:
    [problem] = problems(text(priced("-1") + 'models = ["a", "b"]'))
    assert problem.field == "actions.x.price"


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    content = """\
name = "it"
[actions.x]
title = "X"
price = -1
[models.a]
same_as = "b"
[models.b]
same_as = "a"
[kinds]
freee = { rank = 0 }
[top_ups]
packs = [0, "a"]
"""
    with pytest.raises(reader.CatalogError) as caught:
        whole(content)
    assert str(caught.value).splitlines() == [
        "draft.toml:2: actions.x.unit: missing",
        "draft.toml:4: actions.x.price: must be a number from 0 to 2^53 - 1",
        "draft.toml:6: models.a.same_as: a circle: a = b = a",
        "draft.toml:8: models.b.same_as: a circle: b = a = b",
        'draft.toml:10: kinds.freee: unknown kind (did you mean "free"?)',
        'draft.toml:12: top_ups.packs: [kinds] gives "top_up" no rank',
        "draft.toml:12: top_ups.packs[0]: a pack holds more than 0",
        "draft.toml:12: top_ups.packs[1]: must be a number",
    ]


NO_TOML = [
    ("an_open_quote", b'name = "x\n', 1),
    ("a_value_without_a_key", HEAD.encode() + b"= 3\n", 4),
    ("a_key_twice", HEAD.encode() + b"\nrank = 2\n", 5),
    ("an_open_list", b"a = 1\nb = [1,\n", 2),
    ("bytes_that_are_no_text", b"a = 1\nb = '\xff'\n", 2),
    ("a_figure_without_end", b"a = " + b"9" * 5000, 1),
    ("lists_without_end", b"a = " + b"[" * 100_000, 1),
]


@pytest.mark.parametrize(("content", "line"), [pytest.param(*row, id=n) for n, *row in NO_TOML])
def test_what_is_no_toml_is_one_problem(content: bytes, line: int) -> None:
    with pytest.raises(reader.CatalogError) as caught:
        reader.read(file="it.toml", content=content)
    [problem] = caught.value.problems
    assert (problem.line, problem.field) == (line, "")
    assert str(problem).startswith(f"it.toml:{line}: not TOML: ")
    assert "column" not in problem.message


def test_files_from_windows_are_read_like_others() -> None:
    content = text("[hold]\nttl = 3\n").replace("\n", "\r\n")
    with pytest.raises(reader.CatalogError, match=r"it\.toml:5: hold.ttl: must be a length"):
        reader.read(file="it.toml", content=b"\xef\xbb\xbf" + content.encode())


def test_lines_are_told_however_the_file_is_laid_out() -> None:
    content = """\
name = 'it' # = "x"
kinds = { top_up = { "rank" = 1 } }
title = \"\"\"\\
  Two \\
  lines\"\"\"

actions."a.b" = { title = "A", price = { 'rate' = 'x' }, "unit" = "a" }
actions . "c\\u0064" . title = "C"
[ actions . e ]
title = "E"
price.rate = -1
unit  = "e"
[[hold]]
ttl = "1 h"
[[hold]]
ttl = "2 h"
"""
    assert [str(problem) for problem in problems(content)] == [
        'draft.toml:7: actions."a.b".price.rate: must be a number',
        "draft.toml:8: actions.cd.price: missing: an action that costs nothing says 0",
        "draft.toml:11: actions.e.price.rate: must be a number from 0 to 2^53 - 1",
        "draft.toml:13: hold: must be a table",
    ]


# Versions.


def test_a_version_names_the_catalog_and_stays_the_same() -> None:
    version = reader.load("recraft").version
    assert re.fullmatch(r"recraft-[0-9a-f]{12}", version)
    assert reader.load("recraft").version == version


SAME = [
    ("a comment", "price = 20 ", "price = 20 # dear\n#"),
    ("spaces", "price = 20 ", "price=20"),
    ("a figure spelled otherwise", "price = 20 ", "price = 20.00 "),
    ("a fraction spelled otherwise", '"1080p" = 1.5', '"1080p" = 1.50'),
    ("another sort of quotes", 'title = "Recraft"', "title = 'Recraft'"),
    ("a table written in line", 'hold   = { ttl = "30 min" } ', 'hold.ttl = "30 min" '),
]
OTHER = [
    ("a price", "price = 20 ", "price = 21 "),
    ("a factor", '"1080p" = 1.5', '"1080p" = 1.6'),
    ("a title", '"Remix"', '"Remix!"'),
    ("a pack", "1600]", "1601]"),
    ("a rank", "referral     = { rank = 2 }", "referral = { rank = 3 }"),
    ("a ttl", '"10 min"', '"11 min"'),
    ("the rounding", 'rounding = "up"', 'rounding = "down"'),
    ("the order", "[200, 800,", "[800, 200,"),
]


@pytest.mark.parametrize(("old", "new"), [pytest.param(*row, id=name) for name, *row in SAME])
def test_a_version_does_not_depend_on_the_writing(old: str, new: str) -> None:
    assert old in RECRAFT
    assert whole(RECRAFT.replace(old, new)).version == reader.load("recraft").version


@pytest.mark.parametrize(("old", "new"), [pytest.param(*row, id=name) for name, *row in OTHER])
def test_a_version_changes_with_the_content(old: str, new: str) -> None:
    assert old in RECRAFT
    assert whole(RECRAFT.replace(old, new)).version != reader.load("recraft").version


def test_a_version_changes_with_the_order_of_the_price_list() -> None:
    first, second = named("x").encode(), named("y").encode()
    versions = {
        reader.read(file="it.toml", content=HEAD.encode() + actions).version
        for actions in (first + second, second + first)
    }
    assert len(versions) == 2


# Loading.


def test_a_catalog_is_loaded_from_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text(""), encoding="utf-8")
    assert reader.load(file) == reader.load(str(file)) == catalog("")


def test_a_problem_names_the_path_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("name = 3", encoding="utf-8")
    with pytest.raises(reader.CatalogError) as caught:
        reader.load(file)
    assert {problem.file for problem in caught.value.problems} == {str(file)}


def test_a_name_that_is_not_shipped_is_told_which_are() -> None:
    with pytest.raises(
        reader.CatalogError, match=r"^recraf:1: no such catalog; there are: .*, recraft, or"
    ):
        reader.load("recraf")


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_path_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(reader.CatalogError, match=":1: cannot be read: "):
        reader.load(tmp_path / name)


# Planted defects, in the catalog that is shipped.

LINES = RECRAFT.splitlines()
PRICES = [n for n, line in enumerate(LINES) if line.startswith("price")]
KEYS = [n for n, line in enumerate(LINES) if re.match(r"[a-z_0-9-]+ *=", line)]


@pytest.mark.parametrize("number", PRICES, ids=lambda number: f"line_{number + 1}")
def test_a_price_left_out_is_never_free(number: int) -> None:
    """R10: zero is stated."""
    [problem] = problems("\n".join([*LINES[:number], *LINES[number + 1 :]]))
    assert problem.field.endswith(".price")
    assert problem.message.startswith("missing")


@pytest.mark.parametrize("number", KEYS, ids=lambda number: f"line_{number + 1}")
def test_a_key_misspelled_is_never_ignored(number: int) -> None:
    misspelled = re.sub(r"^([a-z_0-9-]+)", r"\1x", LINES[number])
    found = problems("\n".join([*LINES[:number], misspelled, *LINES[number + 1 :]]))
    named = misspelled.split()[0]
    assert any(
        problem.line == number + 1
        and problem.field.endswith(named)
        and "did you mean" in problem.message
        for problem in found
    ) or any(f'(did you mean "{named}"?)' in problem.message for problem in found)


def test_a_damaged_file_is_a_catalog_or_has_problems() -> None:
    """Nothing else ever leaves the reader, whatever a slip of the hand did to the file."""
    dice = random.Random(1)
    scraps = ["", "=", "[", "]", '"', "0", "-", ".", "{", "}", "#", "\n", "model", "e99", "nan"]
    found: list[reader.Problem] = []
    for _ in range(300):
        at = dice.randrange(len(RECRAFT))
        content = RECRAFT[:at] + dice.choice(scraps) + RECRAFT[at + dice.randrange(5) :]
        with contextlib.suppress(reader.CatalogError):
            whole(content)
            continue
        found += problems(content)
    assert len(found) > 100
    assert all(1 <= problem.line <= len(LINES) + 1 for problem in found)
