"""A report as one page that needs nothing else: no network, no scripts, light and dark."""

from importlib import resources

from jinja2 import Environment

from creditgate_server.bench import plots, shown
from creditgate_server.bench.goals import Verdict
from creditgate_server.bench.shown import Document


def render(document: Document) -> str:
    """The page of a report."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources.files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    )
    figures = document["figures"]
    pictures = [
        (title, told, picture)
        for draw, title, told in plots.PICTURES
        if (picture := draw(document))
    ]
    return template.render(
        conditions=shown.conditions(document),
        counts=[
            (verdict, sum(figure["verdict"] == verdict for figure in figures.values()))
            for verdict in map(str, Verdict)
        ],
        figures=[
            {
                "name": name,
                "figure": figure["figure"],
                "goal": shown.goal(figure),
                "came_to": shown.came_to(figure),
                "verdict": figure["verdict"],
                "details": [
                    detail for detail in (shown.remark(figure), shown.made_of(figure)) if detail
                ],
            }
            for name, figure in figures.items()
        ],
        heads=shown.ROWS,
        legend=shown.LEGEND,
        rows=list(shown.rows(document)),
        pictures=pictures,
    )
