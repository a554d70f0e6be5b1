"""Small catalogs for tests, written as an operator would write them."""

from creditgate_server.catalogs import reader
from creditgate_server.core.catalog import Catalog

HEAD = """\
name = "draft"
[kinds.top_up]
rank = 1
"""
PROMPT = """
[actions.prompt]
title = "Prompt"
price = 1
unit  = "prompt"
"""


def text(section: str) -> str:
    """A whole file around one section; an action is added where the section has none."""
    return HEAD + section + ("" if "[actions" in section else PROMPT)


def catalog(section: str) -> Catalog:
    """The catalog of a file around one section."""
    return whole(text(section))


def whole(content: str) -> Catalog:
    """The catalog of a whole file."""
    return reader.read(file="draft.toml", content=content.encode())
