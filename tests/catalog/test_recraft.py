"""The catalog of Recraft says what its help page says (R1 to R26)."""

from collections import Counter

import pytest

from creditgate_server.catalogs import reader
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job, Kind

# The page's table, line by line; None where it says "1*", equal to the model's price.
PAGE = [
    ("Extract prompt", 1),
    ("Creative upscale", 20),
    ("Crisp upscale", 1),
    ("Erase area", 1),
    ("Generate a mockup", 2),
    ("Modify area / Outpaint", None),
    ("Mockupize", 2),
    ("Generate mockup", 2),
    ("Generate image from prompt", None),
    ("Generate image set", None),
    ("Remove background", 1),
    ("Vectorization", 1),
    ("Remix", None),
    ("Replace background", None),
    ("Image Editing", None),
    ("Generate image variations", None),
    ("Exploration", 2),
    ("Generate a video from a prompt", None),
    ("Generate a video from frames and a prompt", None),
    ("Upscale with external models", None),
    ("Prompt enhancer", 0),
]


@pytest.fixture(scope="module")
def recraft() -> Catalog:
    return reader.load("recraft")


def test_it_is_shipped() -> None:
    assert "recraft" in reader.shipped()


def test_it_lists_the_actions_of_the_page_in_its_order(recraft: Catalog) -> None:
    assert [action.title for action in recraft.actions] == [title for title, _ in PAGE]


@pytest.mark.parametrize(("title", "price"), PAGE)
def test_an_action_costs_what_the_page_says(
    recraft: Catalog, title: str, price: int | None
) -> None:
    [action] = (action for action in recraft.actions if action.title == title)
    lines = list(recraft.priced(action.name))
    if price is None:
        # R11: by the model, and 1 is the lowest.
        assert min(line.price.of(1) for line in lines) == 1
        assert all(line.model for line in lines)
        assert recraft.terms(Job(action=action.name)) is None
    else:
        assert [(line.model, line.price.of(1)) for line in lines] == [("", price)]


def test_a_price_that_equals_the_models_is_the_same_for_every_action(recraft: Catalog) -> None:
    prices = {(line.model, line.price) for line in recraft.priced() if line.model}
    assert set(Counter(model for model, _ in prices).values()) == {1}


def test_subscription_credits_are_drawn_before_top_ups(recraft: Catalog) -> None:
    """R20; R12 names the two, R13 the referral."""
    assert recraft.kinds == (Kind.COMPENSATION, Kind.SUBSCRIPTION, Kind.TOP_UP, Kind.REFERRAL)
    kinds = list(Kind)
    ranks = recraft.rules.ranks
    assert ranks[kinds.index(Kind.SUBSCRIPTION)] < ranks[kinds.index(Kind.TOP_UP)]


def test_top_ups_are_sold_in_four_packs(recraft: Catalog) -> None:
    """R23."""
    assert recraft.packs == (200, 800, 1000, 1600)


def test_a_video_in_higher_resolution_costs_more(recraft: Catalog) -> None:
    amounts = []
    for resolution in ("720p", "1080p"):
        job = Job(
            action="video.generate",
            model="video-studio",
            quantity=5,
            settings=(("resolution", resolution),),
        )
        terms = recraft.terms(job)
        assert terms is not None
        amounts.append(terms.amount)
    assert amounts == [20, 30]
