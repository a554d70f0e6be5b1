"""The catalogs that are shipped say what the help pages of their systems say (R1 to R89)."""

import re
from collections.abc import Iterator
from importlib import resources

import pytest

from creditgate_server.catalogs import reader
from creditgate_server.catalogs.diff import diff
from creditgate_server.core.catalog import ANY_PLAN, Catalog
from creditgate_server.core.commands import Job
from tests.catalog.draft import whole
from tests.catalog.facts import FACTS, Fact

CATALOGS = {name: reader.load(name) for name in reader.shipped()}
TEXTS = {
    name: (resources.files("creditgate_server.catalogs") / f"{name}.toml").read_text("utf-8")
    for name in CATALOGS
}


def test_every_catalog_that_is_shipped_has_its_page() -> None:
    assert set(FACTS) == set(CATALOGS)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        pytest.param(name, fact, id=f"{name}: {fact.sentence}")
        for name, facts in FACTS.items()
        for fact in facts
    ],
)
def test_a_catalog_says_what_the_page_says(name: str, fact: Fact) -> None:
    assert fact.asked(CATALOGS[name]) == fact.said


def test_an_account_that_was_only_created_may_run_what_recraft_has() -> None:
    """No page of Recraft's speaks of gates: the default plan has every action and model."""
    recraft = CATALOGS["recraft"]
    assert recraft.plans.default == "free"
    for line in recraft.priced():
        settings = tuple((setting.name, setting.default_value) for setting in line.settings)
        terms = recraft.terms(Job(action=line.action, model=line.model, settings=settings))
        assert terms is not None
        assert terms.gate == ANY_PLAN


def test_a_figure_that_no_page_states_is_called_an_example() -> None:
    """Every amount of a plan cites its rule or says that it is an example."""
    for name, text in TEXTS.items():
        for line in text.splitlines():
            if re.match(r"(amount|packs|buyers|binds|every) +=", line) and "#" not in line:
                pytest.fail(f"{name}: {line}")


# Planted defects: a line that cites a rule says something else, and the page's facts notice.

OTHER_WORDS = {
    '"day"': '"month"',
    '"month"': '"week"',
    '"quarter"': '"month"',
    '"year"': '"month"',
    '"subscribers"': '"anyone"',
    '"keep"': '"freeze"',
    '"expire"': '"keep"',
    '"seat"': '"account"',
    '"account"': '"seat"',
    '"none"': "5",
    '"cap"': '"overdraft", overdraft_limit = 1',
    '"compensate"': '"forfeit"',
    '"subscription"': '"top_up"',
    '"contract"': "7",
    '"draft"': '"standard"',
    '"pro"': '"standard"',
    '["standard"]': '["standard", "pro"]',
}
# What cites a rule but is not for the catalog to keep, or is said by two lines at once.
NOT_STATED = re.compile(r"^(default|title|unit|cancelled|\[|models|price +=.*\"model\")")


def defects() -> Iterator[tuple[str, int, str]]:
    for name, text in TEXTS.items():
        for number, line in enumerate(text.splitlines()):
            content, _, comment = line.partition("#")
            key, _, value = content.partition("=")
            if not re.search(r"\bR\d", comment) or "example" in comment or not value:
                continue
            if NOT_STATED.search(content):
                continue
            # A rank that falls together with another's, or behind all.
            value = re.sub(
                r"rank = (\d)", lambda rank: f"rank = {9 if rank[1] == '1' else 1}", value
            )
            planted = (
                value
                if "rank" in value
                else re.sub(r"\d[\d_]*", lambda found: str(int(found[0]) + 1), value, count=1)
            )
            for word, other in OTHER_WORDS.items():
                if value.strip() == word:
                    planted = f" {other}"
            yield name, number, f"{key}={planted}"


DEFECTS = list(defects())


@pytest.mark.parametrize(
    ("name", "number", "planted"),
    [pytest.param(*row, id=f"{row[0]}:{row[1] + 1} {row[2].strip()}") for row in DEFECTS],
)
def test_a_line_that_breaks_its_rule_is_noticed(name: str, number: int, planted: str) -> None:
    lines = TEXTS[name].splitlines()
    assert planted.strip() != lines[number].partition("#")[0].strip()
    lines[number] = planted
    try:
        broken = whole("\n".join(lines))
    except reader.CatalogError:
        return
    assert not all(fact.holds(broken) for fact in FACTS[name])


def test_many_lines_cite_their_rule() -> None:
    assert len(DEFECTS) > 80


# Every catalog's figures are told of when they change.


def figures() -> Iterator[tuple[str, int]]:
    for name, text in TEXTS.items():
        for number, line in enumerate(text.splitlines()):
            content = line.partition("#")[0]
            if re.search(r"= *(\[|\{ (rate|flat|price|rank) = *)?\d", content):
                yield name, number


@pytest.mark.parametrize(
    ("name", "number"), [pytest.param(*row, id=f"{row[0]}:{row[1] + 1}") for row in figures()]
)
def test_a_figure_that_changes_is_told(name: str, number: int) -> None:
    lines = TEXTS[name].splitlines()
    lines[number] = re.sub(
        r"(= *(?:\[|\{ (?:rate|flat|price|rank) = *)?)(\d[\d_]*)",
        lambda found: found[1] + str(int(found[2].replace("_", "")) + 1),
        lines[number],
        count=1,
    )
    changed = whole("\n".join(lines))
    if changed.actions != CATALOGS[name].actions or changed.rules != CATALOGS[name].rules:
        assert _told(CATALOGS[name], changed)


def _told(old: Catalog, new: Catalog) -> bool:
    found = diff(old, new)
    return bool(found) and all(each.text and each.old != each.new for each in found)
