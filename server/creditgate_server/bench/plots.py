"""The pictures of a report, as SVG that takes its colours from the page it stands in."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # not marked
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from creditgate_server.bench.shown import Document, number

# Stand-ins that occur nowhere else; the page says what they are, by day and by night.
_INK, _MUTED, _LINE = "#010101", "#020202", "#030303"
_SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04")
_GOOD, _BAD = "#0b0b01", "#0b0b02"
_VARIABLES = {
    _INK: "ink",
    _MUTED: "muted",
    _LINE: "line",
    **{color: f"series-{n}" for n, color in enumerate(_SERIES, 1)},
    _GOOD: "good",
    _BAD: "bad",
}
# What tells lines apart without colours.
_MARKS = ("o", "s", "^", "D")

_STYLE: Any = {
    "svg.fonttype": "none",
    # The same report gives the same page.
    "svg.hashsalt": "creditgate",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}

_UNITS_PER_MS = 10_000


@contextmanager
def _figure(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        found = figure.subplots(1, columns, squeeze=False)[0]
        yield figure, list(found)


def _svg(figure: Figure, name: str, told: str) -> str:
    """The picture to stand in a page: its own ids, the page's colours, and what it shows."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(?::\w+)?="[^"]*"| version="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace("<svg", f'<svg role="img" aria-label="{told}"', 1)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    return text


def _legend(axes: Axes, **more: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, **more)


def _plain(axes: Axes, which: str) -> None:
    """Numbers as people write them, on an axis that may be logarithmic."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if which == "y" and axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value) if value else "0"))
    axis.set_minor_formatter(NullFormatter())


def _bare(axes: Axes, grid: str) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(which="both", length=0)


Rows = Sequence[Mapping[str, Any]]


def _rows(document: Document, **like: Any) -> Rows:
    return [
        row for row in document["rows"] if all(row[name] == value for name, value in like.items())
    ]


def goals(document: Document) -> str:
    """How far each figure is from its goal."""
    bars = []
    for name, figure in document["figures"].items():
        for value in figure["values"]:
            if value["median"] and value["limit"]:
                part = value["median"] / value["limit"]
                share = part if value["sign"] == "at most" else 1 / part
                label = f"{name} {value['what']}".strip()
                bars.append((label, share, value["verdict"] == "met"))
    if not bars:
        return ""
    with _figure(7.2, 0.6 + 0.26 * len(bars)) as (figure, (axes,)):
        for at, (_, share, met) in enumerate(reversed(bars)):
            color = _GOOD if met else _BAD
            axes.plot([1, share], [at, at], color=color, linewidth=5, solid_capstyle="butt")
            axes.plot([share], [at], marker="o" if met else "X", color=color, markersize=8)
        axes.axvline(1, color=_INK, linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_yticks(range(len(bars)), [label for label, *_ in reversed(bars)])
        shares = [share for _, share, _ in bars]
        axes.set_xlim(min(0.4, *shares) / 1.15, max(2.2, *shares) * 1.15)
        _plain(axes, "x")
        axes.set_xlabel("times its goal: left of the line is better, a cross is not met")
        _bare(axes, "x")
        return _svg(figure, "goals", "How far each figure is from its goal")


_PERCENTILES = (50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99)


def _at_percentiles(row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    histogram = HdrHistogram.decode(row["histogram"])
    count = histogram.get_total_count()
    # Beyond that there is one time alone.
    shown = [each for each in _PERCENTILES if count * (100 - each) / 100 >= 2] or [50]
    return (
        [100 / (100 - each) for each in shown],
        [histogram.get_value_at_percentile(each) / _UNITS_PER_MS for each in shown],
    )


def distribution(document: Document) -> str:
    """Latency at one caller and at 64, by percentile."""
    panels = [
        (f"{callers} caller{'s' if callers > 1 else ''}, unix socket", found)
        for callers in (1, 64)
        if (found := _first(_rows(document, callers=callers, over="unix", rate=None), _CALLS))
    ]
    if not panels:
        return ""
    with _figure(7.2, 3.4, len(panels)) as (figure, many):
        for axes, (title, rows) in zip(many, panels, strict=True):
            for color, mark, row in zip(_SERIES, _MARKS, rows, strict=False):
                axes.plot(*_at_percentiles(row), color=color, marker=mark, label=row["what"])
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks([100 / (100 - p) for p in (50, 90, 99, 99.9)])
            axes.set_xticklabels(["p50", "p90", "p99", "p99.9"])
            axes.xaxis.set_minor_formatter(NullFormatter())
            _plain(axes, "y")
            axes.set_title(title, pad=22)
            _bare(axes, "y")
            _legend(axes, handlelength=1.2, columnspacing=0.8, handletextpad=0.3)
        many[0].set_ylabel("ms")
        return _svg(figure, "distribution", "Latency by percentile")


_CALLS = ("empty", "script", "authorize", "settle")


def _first(rows: Rows, names: Sequence[str]) -> Rows:
    """The first row of each name."""
    found = [[row for row in rows if row["what"] == name] for name in names]
    return [each[0] for each in found if each]


def throughput(document: Document) -> str:
    """Calls a second against the number of callers."""
    fitting = [
        row for row in document["rows"] if row["rate"] is None and row["fsync"] != "everysec"
    ]
    overs = [over for over in ("unix", "tcp") if any(row["over"] == over for row in fitting)]
    whats = ("empty", "authorize", "settle")
    lines = {
        (over, what): sorted(
            {
                row["callers"]: row
                for row in reversed(fitting)
                if (row["over"], row["what"]) == (over, what)
            }.items()
        )
        for over in overs
        for what in whats
    }
    if not any(len(line) > 1 for line in lines.values()):
        return ""
    with _figure(7.2, 3.4, len(overs)) as (figure, many):
        most = 0.0
        for axes, over in zip(many, overs, strict=True):
            for color, mark, what in zip((_SERIES[0], *_SERIES[2:]), _MARKS, whats, strict=False):
                line = lines[over, what]
                medians = [row["per_second"]["median"] for _, row in line]
                most = max([most, *(row["per_second"]["most"] for _, row in line)])
                axes.errorbar(
                    [callers for callers, _ in line],
                    medians,
                    yerr=_spread([row["per_second"] for _, row in line]),
                    color=color,
                    marker=mark,
                    label=what,
                    elinewidth=1,
                )
            axes.set_xscale("log", base=4)
            axes.set_xticks([1, 16, 64, 256])
            _plain(axes, "x")
            _plain(axes, "y")
            axes.set_xlabel("callers")
            axes.set_title({"unix": "unix socket", "tcp": "TCP"}[over], pad=22)
            _bare(axes, "y")
            _legend(axes, handlelength=1.2)
        for axes in many:
            axes.set_ylim(0, most * 1.05)
        many[0].set_ylabel("a second")
        return _svg(figure, "throughput", "Calls a second against the number of callers")


def _spread(found: Sequence[Mapping[str, float]]) -> list[list[float]]:
    return [
        [each["median"] - each["least"] for each in found],
        [each["most"] - each["median"] for each in found],
    ]


_COSTS = (
    ("bare", "an empty call, bare grpc.aio"),
    ("empty", "an empty call, creditgate"),
    ("authorize", "Authorize"),
    ("settle", "Settle"),
    ("execute", "an operation in Execute"),
    ("session", "an operation in Session"),
    ("authorize, stub", "Authorize by a plain stub"),
    ("authorize, client", "Authorize by AsyncClient"),
)


def costs(document: Document) -> str:
    """CPU for one operation, by process."""
    bars = []
    for what, label in _COSTS:
        rows = [
            row
            for row in _rows(document, what=what, over="unix", rate=None)
            if row["callers"] in {4, 64, 256} and row["fsync"] == "always"
        ]
        preferred = sorted(rows, key=lambda row: row["callers"] != 64)
        if preferred:
            bars.append((label, preferred[0]["cpu_us"]))
    if not bars:
        return ""
    with _figure(7.2, 0.9 + 0.36 * len(bars)) as (figure, (axes,)):
        labels = [label for label, _ in bars][::-1]
        below = [0.0] * len(bars)
        processes = (("server", "server"), ("store", "store"), ("load", "load or client"))
        for color, (name, label) in zip(_SERIES, processes, strict=False):
            sizes = [cpu.get(name, {"median": 0})["median"] for _, cpu in bars][::-1]
            axes.barh(labels, sizes, left=below, color=color, label=label, height=0.62)
            below = [one + other for one, other in zip(below, sizes, strict=True)]
        for at, total in enumerate(below):
            axes.annotate(
                f"{total:.0f}", (total, at), (5, 0), textcoords="offset points", va="center",
                color=_MUTED, fontsize=9.5,
            )  # fmt: skip
        axes.set_xlim(0, max(below) * 1.1)
        axes.set_xlabel("µs of CPU for one operation")
        _bare(axes, "x")
        _legend(axes, handlelength=1)
        return _svg(figure, "costs", "CPU for one operation, by process")


def growth(document: Document) -> str:
    """The time of a script as things grow."""
    curves = {
        name: points
        for name, points in document["curves"].items()
        if points and "size" in points[0]
    }
    if not curves:
        return ""
    with _figure(7.2, 2.5, len(curves)) as (figure, many):
        most = max(point["us"] for points in curves.values() for point in points)
        for axes, (name, points) in zip(many, curves.items(), strict=True):
            axes.plot(
                [point["size"] for point in points],
                [point["us"] for point in points],
                color=_SERIES[0],
                marker=_MARKS[0],
            )
            axes.set_xscale("log")
            axes.set_ylim(0, most * 1.2)
            axes.set_title(name.replace(" on the account", "\non the account"), fontsize=9.5)
            axes.set_xticks([points[0]["size"], points[-1]["size"]])
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="x", labelsize=8.5)
            _bare(axes, "y")
        for axes in many[1:]:
            axes.set_yticklabels([])
        many[0].set_ylabel("µs in the script")
        return _svg(figure, "growth", "The time of a script against what is there")


def _short(value: float, _place: object = None) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def schedule(document: Document) -> str:
    """Latency at fixed rates."""
    rows = [
        row for row in document["rows"] if row["rate"] is not None and row["what"] == "authorize"
    ]
    if len(rows) < 2:
        return ""
    rows = sorted(rows, key=lambda row: float(row["rate"]))
    with _figure(7.2, 3.0) as (figure, (axes,)):
        whats = (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"))
        for color, mark, (name, label) in zip(_SERIES, _MARKS, whats, strict=False):
            axes.plot(
                [row["rate"] for row in rows],
                [row[name]["median"] / 1e3 for row in rows],
                color=color,
                marker=mark,
                label=label,
            )
        axes.set_yscale("log")
        axes.set_xlim(0, max(row["rate"] for row in rows) * 1.08)
        _plain(axes, "x")
        _plain(axes, "y")
        axes.set_xlabel("Authorize a second, begun by a schedule")
        axes.set_ylabel("ms")
        _bare(axes, "y")
        _legend(axes)
        return _svg(figure, "schedule", "Latency at fixed rates")


def expiry(document: Document) -> str:
    """Authorize by schedule while holds go back."""
    points = document["curves"].get("while holds expire", [])
    if not points:
        return ""
    took = document["figures"]["E1"]["values"][1]["median"]
    with _figure(7.2, 2.6) as (figure, (axes,)):
        seconds = [point["seconds"] for point in points]
        if took:
            axes.axvspan(0, took, color=_SERIES[1], alpha=0.14, linewidth=0)
            axes.text(
                0,
                1.02,
                " holds go back",
                color=_MUTED,
                fontsize=9.5,
                transform=axes.get_xaxis_transform(),
            )
        whats = (("ms", "slowest"), ("median_ms", "median"))
        for color, mark, (name, label) in zip(_SERIES, _MARKS, whats, strict=False):
            axes.plot(
                seconds, [point[name] for point in points], color=color, marker=mark, markersize=3,
                label=label,
            )  # fmt: skip
        axes.set_yscale("log")
        _plain(axes, "y")
        axes.set_xlabel("seconds from when they were due")
        axes.set_ylabel("ms, of a tenth of a second")
        _bare(axes, "y")
        axes.legend(loc="upper right", ncols=2)
        return _svg(figure, "expiry", "Latency while very many holds expire")


PICTURES: Sequence[tuple[Callable[[Document], str], str, str]] = (
    (
        goals,
        "Goals",
        "Each figure as a multiple of its goal; for those that shall be large, the inverse.",
    ),
    (
        distribution,
        "Latency",
        (
            "By percentile, all rounds together. Script is an Authorize sent to the store; "
            "empty is an RPC through the same server that asks nothing of the store."
        ),
    ),
    (
        throughput,
        "Throughput",
        (
            "Each caller asks again when it has its answer, 16 callers on a connection. Bars reach "
            "from the slowest round to the fastest."
        ),
    ),
    (
        costs,
        "CPU for one operation",
        (
            "Of each process, at 64 callers and more, over a unix socket. The benchmark's load "
            "is written to cost little; a plain stub or AsyncClient is what a Python worker has."
        ),
    ),
    (growth, "Growth", "Time that the store spends in the script of an Authorize."),
    (
        schedule,
        "By schedule",
        (
            "Requests begin at a fixed rate, and the time of each counts from when it was meant to "
            "begin, so that a pause of the server is seen by all that fell into it."
        ),
    ),
    (expiry, "Expiry", "Authorize at a fixed rate while very many holds are due at once."),
)
"""Each picture, its title, and what it shows."""
