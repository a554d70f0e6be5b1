"""A TOML file as people wrote it: its values, the line of each, and all that is wrong with it."""

import difflib
import enum
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import TracebackType
from typing import Final, TypeAlias, TypeVar

import tree_sitter
import tree_sitter_toml

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indices that lead from the top of the file to a value."""

WordT = TypeVar("WordT", bound=enum.Enum)

NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
NAME_RULE: Final = "1 to 128 of A-Z a-z 0-9 _ . : -"

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_DURATION: Final = re.compile(r"([0-9]{1,9}) ?(s|min|h|d)")
_UNIT_MS: Final = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_FIGURE_PLACES: Final = 9
_FIGURE_MAX: Final = 2**53 - 1
_LINE_OF_FAULT: Final = re.compile(r" \(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file; `field` is "" where it is the file itself."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """As compilers say it, so that editors find the line."""
        words = (self.field, self.message) if self.field else (self.message,)
        return ": ".join((f"{self.file}:{self.line}", *words))


class CatalogError(Exception):
    """A file that is no catalog. `problems` has all that was found, in the order of the lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Document:
    """One file, whose `problems` grow as it is read."""

    def __init__(self, *, file: str, content: bytes) -> None:
        """Raises `CatalogError` if the content is not TOML."""
        self._file = file
        self._lines: dict[Place, int] | None = None
        self._problems: list[Problem] = []
        try:
            # utf-8-sig: the mark that Windows editors put in front is no fault of the writer.
            self._text = content.decode("utf-8-sig")
            data = tomllib.loads(self._text, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise CatalogError((_no_toml(file, content, error),)) from None
        self.data: dict[str, object] = data

    def root(self) -> "Table":
        """The file's top level."""
        return Table(self, (), self.data)

    def problem(self, place: Place, message: str) -> None:
        """Note once what is wrong at a place.

        Where nothing stands, the line is that of the table around it.
        """
        if self._lines is None:
            self._lines = _lines(self._text.encode())
        known = place
        while known and known not in self._lines:
            known = known[:-1]
        line = self._lines.get(known, 1)
        problem = Problem(file=self._file, line=line, field=_spelled(place), message=message)
        if problem not in self._problems:
            self._problems.append(problem)

    @property
    def sound(self) -> bool:
        """Whether no problem was noted so far."""
        return not self._problems

    def raise_problems(self) -> None:
        """Raise `CatalogError` if any were noted."""
        if self._problems:
            raise CatalogError(tuple(sorted(self._problems, key=lambda problem: problem.line)))


class Table:
    """One table of a file. Each reader method notes what is wrong and answers something usable.

    Used in a `with`, which at its end reports the keys that nobody asked for.
    """

    def __init__(self, document: Document, place: Place, content: Mapping[str, object]) -> None:
        self._document = document
        self._place = place
        self._content = content
        self._asked: list[str] = []

    def __enter__(self) -> "Table":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for key in self._content:
            if error is None and key not in self._asked:
                self.problem(f"unknown{did_you_mean(key, self._asked)}", key)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the file so far."""
        return self._document.sound

    def get(self, key: str) -> object:
        """The value as it stands, None if it does not: TOML has no null."""
        self._asked.append(key)
        return self._content.get(key)

    def problem(self, message: str, *steps: str | int) -> None:
        """Note what is wrong at a key (and further in), or with the table itself."""
        self._document.problem((*self._place, *steps), message)

    def text(self, key: str, *, default: str | None = None) -> str:
        """One line of 1 to 200 printable characters; without a default it must be there."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.problem("missing", key)
        elif not isinstance(value, str):
            self.problem("must be text in quotes", key)
        elif not (0 < len(value) <= 200 and value.isprintable()):
            self.problem("must be one line of 1 to 200 characters", key)
        else:
            return value
        return ""

    def whole(self, key: str, *, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`; without a default it must be there."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.problem("missing", key)
        elif not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.problem(f"must be a whole number from {low} to {high}", key)
        else:
            return value
        return low

    def figure(self, value: object, *steps: str | int) -> Fraction | None:
        """`value`, which stands at `steps`, as a figure from 0 to 2^53 - 1; None if it is none."""
        # The bounds come before Fraction(), which would write out 1e-999999999 in full.
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            self.problem("must be a number", *steps)
        elif not (Decimal(value).is_finite() and 0 <= value <= _FIGURE_MAX):
            self.problem("must be a number from 0 to 2^53 - 1", *steps)
        elif places(Decimal(value)) > _FIGURE_PLACES:
            self.problem(f"must have at most {_FIGURE_PLACES} digits after the point", *steps)
        else:
            return Fraction(value)
        return None

    def flag(self, key: str) -> bool:
        """Whether it says true; false if it is not there."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.problem("must be true or false", key)
        return value is True

    def word(self, key: str, words: type[WordT], default: WordT) -> WordT:
        """One of the names of an enum, in small letters."""
        value = self.get(key)
        if value is None:
            return default
        names = {word.name.lower(): word for word in words}
        if isinstance(value, str) and value in names:
            return names[value]
        listed = ", ".join(f'"{name}"' for name in names)
        self.problem(f"must be one of {listed}", key)
        return default

    def duration_ms(self, key: str, *, low_ms: int, high_ms: int, default_ms: int) -> int:
        """A length of time such as "90 s", "10 min", "24 h" or "7 d"."""
        value = self.get(key)
        if value is None:
            return default_ms
        parts = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if parts is None:
            self.problem('must be a length of time such as "90 s", "10 min", "24 h" or "7 d"', key)
            return default_ms
        length_ms = int(parts[1]) * _UNIT_MS[parts[2]]
        if not low_ms <= length_ms <= high_ms:
            self.problem(f"must be {duration(low_ms)} to {duration(high_ms)}", key)
            return default_ms
        return length_ms

    def elements(self, key: str) -> list[object]:
        """The elements of a list; none if it is not there."""
        value = self.get(key)
        if isinstance(value, list):
            return value
        if value is not None:
            self.problem("must be a list", key)
        return []

    def references(self, key: str, known: Collection[str], what: str) -> list[str]:
        """A list of names that stand elsewhere in the file, each once; none if it is not there.

        `what` says in a problem what they are names of.
        """
        found: list[str] = []
        if self.get(key) == []:
            self.problem("names none", key)
        for index, name in enumerate(self.elements(key)):
            if not isinstance(name, str):
                self.problem("must be text in quotes", key, index)
            elif name in found:
                self.problem(f"this {what} is listed twice", key, index)
            elif self.reference(name, known, what, key, index):
                found.append(name)
        return found

    def reference(self, name: str, known: Collection[str], what: str, *steps: str | int) -> bool:
        """Whether a name that stands at `steps` is known; a problem is noted if it is not."""
        if name not in known:
            self.problem(f'unknown {what} "{name}"{did_you_mean(name, known)}', *steps)
        return name in known

    def table(self, key: str) -> "Table":
        """The table of this key; an empty one if it is not there."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            self.problem("must be a table", key)
        return Table(self._document, (*self._place, key), value if isinstance(value, dict) else {})

    def names(self) -> Iterator[str]:
        """The keys of a table whose keys are the operator's own names; no others."""
        for key in self._content:
            self._asked.append(key)
            if NAME.fullmatch(key):
                yield key
            else:
                self.problem(f"a name is {NAME_RULE}", key)

    def tables(self) -> Iterator[tuple[str, "Table"]]:
        """The tables of a table whose keys are the operator's own names."""
        for name in self.names():
            table = self.table(name)
            if isinstance(self._content[name], dict):
                yield name, table


def places(figure: Decimal) -> int:
    """Digits after the point, zeros at the end not counted."""
    _, digits, exponent = figure.as_tuple()
    if not figure or not isinstance(exponent, int):
        return 0
    written = "".join(map(str, digits))
    return max(0, len(written.rstrip("0")) - len(written) - exponent)


def duration(length_ms: int) -> str:
    """A length of time as the file spells it, in the largest unit in which it is whole."""
    unit = next(unit for unit in ("d", "h", "min", "s") if length_ms % _UNIT_MS[unit] == 0)
    return f"{length_ms // _UNIT_MS[unit]} {unit}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """What to append to a message about a name that is not known; "" if nothing is like it."""
    close = difflib.get_close_matches(name, known, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _spelled(place: Place) -> str:
    """A place as TOML would write it, indices in brackets: `actions."image.edit".models[2]`."""
    field = ""
    for step in place:
        if isinstance(step, int):
            field += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            field += f".{key}" if field else key
    return field


def _no_toml(file: str, content: bytes, error: Exception) -> Problem:
    """Why a content could not be parsed; tomllib tells the line in its text, or means the end."""
    at = _LINE_OF_FAULT.search(str(error))
    if at:
        line, message = int(at[1]), str(error).replace(at[0], "")
    elif isinstance(error, UnicodeDecodeError):
        line, message = content.count(b"\n", 0, error.start) + 1, "not UTF-8"
    else:
        line, message = max(1, len(content.splitlines())), str(error)
    return Problem(file=file, line=line, field="", message=f"not TOML: {message}")


def _lines(content: bytes) -> dict[Place, int]:
    """The line on which each key or element of a list begins, counted from 1.

    tomllib gives values without lines, tree-sitter lines without values; both read the same text.
    Where tree-sitter's grammar falls short of TOML a place is missing here, nothing more.
    """
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
    lines: dict[Place, int] = {}
    lengths: dict[Place, int] = {}
    for node in parser.parse(content).root_node.named_children:
        place: Place = ()
        if node.type in {"table", "table_array_element"}:
            place = _keys(node.named_children[0])
            if node.type == "table_array_element":
                lengths[place] = lengths.get(place, -1) + 1
            place = _indexed(place, lengths)
            _note(lines, place, node)
        # A pair stands for itself; pairs also stand among the children of a table's header.
        for pair in [node] if node.type == "pair" else node.named_children:
            _note_pair(lines, place, pair)
    return lines


def _indexed(keys: Place, lengths: Mapping[Place, int]) -> Place:
    """A header's place: a key that is a list of tables means the last of them."""
    place: Place = ()
    for length, key in enumerate(keys, start=1):
        index = lengths.get(keys[:length])
        place = (*place, key) if index is None else (*place, key, index)
    return place


def _note_pair(lines: dict[Place, int], around: Place, node: tree_sitter.Node) -> None:
    if node.type != "pair":
        return
    key, *values = (child for child in node.named_children if child.type != "comment")
    place = (*around, *_keys(key))
    _note(lines, place, node)
    for value in values:
        _note_value(lines, place, value)


def _note_value(lines: dict[Place, int], place: Place, value: tree_sitter.Node) -> None:
    if value.type == "inline_table":
        for pair in value.named_children:
            _note_pair(lines, place, pair)
    elif value.type == "array":
        elements = (child for child in value.named_children if child.type != "comment")
        for index, element in enumerate(elements):
            _note(lines, (*place, index), element)
            _note_value(lines, (*place, index), element)


def _note(lines: dict[Place, int], place: Place, node: tree_sitter.Node) -> None:
    """Note the line of a place, and of tables around it that are named for the first time."""
    for length in range(1, len(place) + 1):
        lines.setdefault(place[:length], node.start_point.row + 1)


def _keys(node: tree_sitter.Node) -> Place:
    """The parts of a key such as `a."b.c"`; quotes and escapes are tomllib's trade."""
    try:
        value: object = tomllib.loads(f"{(node.text or b'').decode()} = 0")
    except ValueError:
        return ()
    keys: list[str] = []
    while isinstance(value, dict):
        [(key, value)] = value.items()
        keys.append(key)
    return tuple(keys)
