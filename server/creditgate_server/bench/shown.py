"""A report as text: the words of its table, and the table for docs/performance.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
"""A report as `--json` writes it."""


_LINES = "\n"


def number(value: float) -> str:
    """A figure in as many digits as say something."""
    if value >= 1_000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def times(value_us: float) -> str:
    """A time."""
    if value_us >= 1_000:
        return f"{number(value_us / 1e3)} ms"
    return f"{number(value_us)} µs"


def came_to(figure: Mapping[str, Any]) -> str:
    """What a figure came to: the median of each number, with its spread."""
    return _LINES.join(_value(value) for value in figure["values"] if value["median"] is not None)


def _value(value: Mapping[str, Any]) -> str:
    unit = value["unit"] and f" {value['unit']}"
    shown = f"{number(value['median'])}{unit}"
    least, most = min(value["rounds"]), max(value["rounds"])
    if number(least) != number(most):
        shown += f" ({number(least)} to {number(most)})"
    return f"{shown} {value['what']}" if value["what"] else shown


def goal(figure: Mapping[str, Any]) -> str:
    """What it shall be, a line for each number."""
    return _LINES.join(figure["goal"].split(", "))


def remark(figure: Mapping[str, Any]) -> str:
    """At which size it was measured, and why not, if it was not."""
    return "; ".join(filter(None, (figure["at"], figure["because"])))


def made_of(figure: Mapping[str, Any]) -> str:
    """The times and costs that a ratio was made of."""
    return ", ".join(_part(name, value) for name, value in figure["parts"].items())


def _part(name: str, value: float) -> str:
    for ending, said in (
        ("_us", times(value)),
        ("_per_second", f"{number(value)} a second"),
        ("_bytes", f"{number(value)} B"),
        ("", number(value)),
    ):
        if name.endswith(ending):
            return f"{name.removesuffix(ending).replace('_', ' ')} {said}"
    raise AssertionError(name)


def conditions(document: Document) -> list[tuple[str, str]]:
    """Where and how it was measured."""
    said = document["conditions"]
    words = {
        "minutes": "took, minutes",
        "seconds": "seconds of each round",
        "scale": "part of the goals' sizes",
        "disk": "file system of the store",
        "load_average": "load average at the end",
    }
    return [(words.get(name, name), str(value)) for name, value in said.items()]


def rows(document: Document) -> Iterator[list[str]]:
    """Each load with its throughput, latencies, and CPU for each operation."""
    for row in document["rows"]:
        cpu = row["cpu_us"]
        yield [
            row["what"],
            str(row["callers"]) if row["rate"] is None else f"{row['rate']:,.0f}/s",
            f"{row['accounts']:,}",
            " ".join(filter(None, (row["over"], row["fsync"]))),
            number(row["per_second"]["median"]),
            times(row["p50_us"]["median"]),
            times(row["p99_us"]["median"]),
            *(
                number(cpu[name]["median"]) if name in cpu else ""
                for name in ("server", "store", "load")
            ),
            f"{100 * row['load_busy']['median']:.0f} %",
        ]


ROWS = (
    "operation",
    "callers",
    "accounts",
    "over",
    "per s",
    "p50",
    "p99",
    "server",
    "store",
    "load",
    "busy",
)
"""The heads of `rows`."""

LEGEND = (
    "server, store, load: CPU in µs for one operation of each process. busy: the part of the time "
    "that the load itself was at work; near 100 % it was the limit."
)


def markdown(document: Document) -> str:
    """The tables of docs/performance.md."""
    heads = ("", "figure", "goal", "came to", "verdict", "measured at")
    figures = [
        [
            name,
            each["figure"],
            each["goal"],
            came_to(each).replace(_LINES, ", "),
            each["verdict"],
            remark(each),
        ]
        for name, each in document["figures"].items()
    ]
    parts = (
        _table(heads, figures),
        LEGEND,
        _table(ROWS, rows(document)),
        _table(("condition", ""), conditions(document)),
    )
    return "\n\n".join(parts) + "\n"


_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->"


def with_figures(text: str, document: Document) -> str:
    """A page with these tables where its marks are; a page without marks becomes the tables."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    tables = markdown(document)
    return f"{before}{begin}\n{tables}\n{end}{after}" if end else tables


def _table(heads: Sequence[str], lines: Any) -> str:
    rule = ["---"] * len(heads)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))
