"""What the help pages of five systems say, rule by rule: where to look, and what is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from creditgate_server.core.calendar import Every
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.plans import AddOn, Buyers, OnLapse, RecurringGrant

DAY, MONTH, QUARTER, YEAR = Every.DAY, Every.MONTH, Every.QUARTER, Every.YEAR


@dataclass(frozen=True)
class Fact:
    """One sentence of a page: `said` is what the catalog must answer to `asked`."""

    sentence: str
    asked: Callable[[Catalog], object]
    said: object

    def holds(self, catalog: Catalog) -> bool:
        return self.asked(catalog) == self.said


def grant(catalog: Catalog, plan: str, name: str) -> RecurringGrant:
    return next(each for each in catalog.plans.by_name[plan].grants if each.name == name)


def grants(name: str) -> Callable[[Catalog], dict[str, tuple[int, Every]]]:
    """What the plans that have a bucket of this name grant in it."""
    return lambda catalog: {
        plan.name: (each.amount, each.every)
        for plan in catalog.plans.plans
        for each in plan.grants
        if each.name == name
    }


def every(name: str) -> Callable[[Catalog], object]:
    """By which intervals a bucket is filled, in whatever plan."""
    return lambda catalog: {
        each.every for plan in catalog.plans.plans for each in plan.grants if each.name == name
    }


def kinds(name: str) -> Callable[[Catalog], object]:
    return lambda catalog: {
        Kind(each.kind) for plan in catalog.plans.plans for each in plan.grants if each.name == name
    }


def rolls_over(catalog: Catalog) -> bool:
    return any(each.rollover_max for plan in catalog.plans.plans for each in plan.grants)


def seats(name: str) -> Callable[[Catalog], object]:
    return lambda catalog: [
        plan.name
        for plan in catalog.plans.plans
        for each in plan.grants
        if each.name == name and each.per_seat
    ]


def price(
    action: str, model: str = "", quantity: int = 1, **settings: str
) -> Callable[[Catalog], int | None]:
    def asked(catalog: Catalog) -> int | None:
        job = Job(
            action=action, model=model, quantity=quantity, settings=tuple(sorted(settings.items()))
        )
        terms = catalog.terms(job)
        return None if terms is None else terms.amount

    return asked


def allowed(action: str, model: str = "") -> Callable[[Catalog], list[str]]:
    return lambda catalog: [plan.name for plan in catalog.plans.plans if plan.allows(action, model)]


def rises(*asked: Callable[[Catalog], int | None]) -> Callable[[Catalog], bool]:
    """Whether each price is above the one before it."""

    def compared(catalog: Catalog) -> bool:
        prices = [amount for each in asked if (amount := each(catalog)) is not None]
        return len(prices) == len(asked) and sorted(set(prices)) == prices

    return compared


def forecast(buffer_percent: int) -> Callable[[Catalog], object]:
    """What the example of R43 costs."""

    def asked(catalog: Catalog) -> object:
        image = Job(action="image.generate", model="image-standard")
        video = Job(action="video.generate", model="video-standard")
        found = catalog.forecast([(image, 660), (video, 220)], buffer_percent=buffer_percent)
        return found.prices, found.amount, found.buffer

    return asked


def billed_and_granted(plan: str) -> Callable[[Catalog], tuple[Every, Every]]:
    """The interval of the bill, and that of the monthly grant."""
    return lambda catalog: (
        catalog.plans.by_name[plan].billing,
        grant(catalog, plan, "monthly").every,
    )


def buyers(catalog: Catalog) -> object:
    return catalog.plans.buyers


def top_up_on_lapse(catalog: Catalog) -> object:
    return catalog.plans.top_up_on_lapse


def order(catalog: Catalog) -> list[set[Kind]]:
    """The burn-down order without compensation; what is drawn alike stands together."""
    ranks = dict(zip(Kind, catalog.rules.ranks, strict=True))
    drawn = [kind for kind in catalog.kinds if kind is not Kind.COMPENSATION]
    by_rank = groupby(drawn, key=ranks.__getitem__)
    return [set(kinds) for _, kinds in by_rank]


def unit(catalog: Catalog) -> AddOn:
    return catalog.plans.add_on_by_name["unit"]


def yes(sentence: str, asked: Callable[[Catalog], object]) -> Fact:
    return Fact(sentence, asked, said=True)


def no(sentence: str, asked: Callable[[Catalog], object]) -> Fact:
    return Fact(sentence, asked, said=False)


def shared(catalog: Catalog) -> object:
    """What every plan grants alike."""
    names = [{g.name for g in plan.grants} for plan in catalog.plans.plans]
    return set.intersection(*names)


RECRAFT = [
    Fact(
        "R12 R13 R20 subscription first, then what was bought or earned",
        order,
        [{Kind.SUBSCRIPTION}, {Kind.TOP_UP, Kind.REFERRAL}],
    ),
    yes("R13 credits are earned by referral", lambda c: Kind.REFERRAL in c.kinds),
    Fact("R14 subscription credits reset monthly", every("monthly"), {MONTH}),
    Fact("R15 those of free users reset daily", every("daily"), {DAY}),
    Fact("R15 they are subscription credits", kinds("daily"), {Kind.SUBSCRIPTION}),
    Fact("R15 only free users have them", lambda c: list(grants("daily")(c)), ["free"]),
    Fact("R14 they are subscription credits", kinds("monthly"), {Kind.SUBSCRIPTION}),
    no("R16 nothing rolls over", rolls_over),
    Fact("R17 R18 R19 top-ups outlive the subscription", top_up_on_lapse, OnLapse.KEEP),
    Fact("R21 only paid users buy them", buyers, Buyers.SUBSCRIBERS),
    Fact(
        "R21 paid users",
        lambda c: [p.name for p in c.plans.plans if c.plans.may_buy(p.name)],
        ["basic", "advanced", "pro"],
    ),
    Fact("R23 in four packs", lambda c: c.packs, (200, 800, 1000, 1600)),
    Fact("R1 extract prompt", price("prompt.extract"), 1),
    Fact("R2 creative upscale", price("upscale.creative"), 20),
    Fact("R3 crisp upscale", price("upscale.crisp"), 1),
    Fact("R4 erase area", price("image.erase-area"), 1),
    Fact("R5 generate a mockup", price("mockup.create"), 2),
    Fact("R5 generate mockup", price("mockup.generate"), 2),
    Fact("R6 mockupize", price("mockup.mockupize"), 2),
    Fact("R7 remove background", price("image.remove-background"), 1),
    Fact("R8 vectorization", price("image.vectorize"), 1),
    Fact("R9 exploration", price("image.explore"), 2),
    Fact("R10 prompt enhancer", price("prompt.enhance"), 0),
    Fact("R11 equal to the model's price", price("image.generate", "recraft-v3"), 1),
]

PAID: Final = ["starter", "creator", "creator-quarterly", "creator-yearly", "studio"]

IMAGINEART = [
    Fact(
        "R30 R31 every account has 100 free credits a day",
        grants("daily"),
        dict.fromkeys(["free", *PAID], (100, DAY)),
    ),
    Fact("R30 they are free credits", kinds("daily"), {Kind.FREE}),
    Fact("R30 monthly ones are the subscription's", kinds("monthly"), {Kind.SUBSCRIPTION}),
    Fact("R31 paid accounts too", shared, {"daily"}),
    Fact("R32 pro models need a subscription", allowed("image.generate", "image-pro"), PAID),
    Fact(
        "R32 pro models need a subscription, of video too",
        allowed("video.generate", "video-pro"),
        PAID,
    ),
    yes("R32 others do not", lambda c: "free" in allowed("image.generate", "image-standard")(c)),
    Fact("R33 refreshed monthly", every("monthly"), {MONTH}),
    no("R33 nothing rolls over", rolls_over),
    Fact(
        "R35 quarterly and yearly plans",
        lambda c: {p.billing for p in c.plans.plans},
        {MONTH, QUARTER, YEAR},
    ),
    Fact(
        "R35 a quarterly plan is assigned monthly",
        billed_and_granted("creator-quarterly"),
        (QUARTER, MONTH),
    ),
    Fact(
        "R35 a yearly plan is assigned monthly", billed_and_granted("creator-yearly"), (YEAR, MONTH)
    ),
    Fact("R36 R38 top-ups outlive the subscription", top_up_on_lapse, OnLapse.KEEP),
    Fact("R37 bought while a subscription is active", buyers, Buyers.SUBSCRIBERS),
    Fact(
        "R39 free, subscription, top-up", order, [{Kind.FREE}, {Kind.SUBSCRIPTION}, {Kind.TOP_UP}]
    ),
    yes(
        "R28 settings count",
        rises(
            price("video.generate", "video-standard"),
            price("video.generate", "video-standard", duration="10s"),
        ),
    ),
    Fact("R28 the number of results counts", price("image.generate", "image-standard", 3), 72),
    Fact("R43 660 images and 220 videos", forecast(0), ((24, 210), 62_040, 0)),
    Fact("R42 a buffer of 20 %", forecast(20), ((24, 210), 62_040, 12_408)),
    Fact("R42 a buffer of 30 %", forecast(30), ((24, 210), 62_040, 18_612)),
]

IMAGINEART_2024 = [
    Fact(
        "R51 all users get 50 a day",
        grants("daily"),
        dict.fromkeys(["free", "starter", "creator"], (50, DAY)),
    ),
    Fact("R52 added to a subscription", buyers, Buyers.SUBSCRIBERS),
    yes(
        "R50 more complex models cost more",
        rises(price("image.generate", "image-standard"), price("image.generate", "image-pro")),
    ),
    yes(
        "R50 the number of generations counts",
        rises(price("image.generate", "image-pro", 1), price("image.generate", "image-pro", 2)),
    ),
    Fact(
        "R53 four studios",
        lambda c: list(dict.fromkeys(a.name.split(".")[0] for a in c.actions)),
        ["image", "video", "sketch", "music"],
    ),
    Fact("R55 referral rewards exist", lambda c: order(c)[-1], {Kind.TOP_UP, Kind.REFERRAL}),
]

CLICKRAFT = [
    Fact(
        "R56 images, video and text",
        lambda c: [a.name.split(".")[0] for a in c.actions],
        ["image", "video", "text"],
    ),
    Fact("R59 a failure is given back", lambda c: c.rules.on_failed.value, "compensate"),
    Fact("R61 the exact cost", lambda c: {a.hold.overage.value for a in c.actions}, {"cap"}),
    yes(
        "R60 higher tiers cost more",
        rises(
            *(price("image.generate", f"image-{tier}") for tier in ("draft", "standard", "premium"))
        ),
    ),
    yes(
        "R60 longer videos cost more",
        rises(
            price("video.generate", "video-draft", 5), price("video.generate", "video-draft", 10)
        ),
    ),
    yes(
        "R60 a higher resolution costs more",
        rises(
            price("video.generate", "video-premium", 4),
            price("video.generate", "video-premium", 4, resolution="1080p"),
        ),
    ),
    yes(
        "R60 a higher resolution costs more, in the standard tier",
        rises(
            price("video.generate", "video-standard", 4),
            price("video.generate", "video-standard", 4, resolution="1080p"),
        ),
    ),
    Fact("R60 the defaults", price("video.generate", "video-standard", 4, resolution="720p"), 40),
    Fact("R62 one pool for the organization", seats("monthly"), []),
    Fact(
        "R63 R65 its order, whatever the reason given",
        order,
        [{Kind.SUBSCRIPTION}, {Kind.TOP_UP}, {Kind.PROMOTIONAL}, {Kind.REFERRAL}],
    ),
    Fact("R64 R66 subscription credits reset with the billing cycle", every("monthly"), {MONTH}),
    Fact("R64 they are the subscription's", kinds("monthly"), {Kind.SUBSCRIPTION}),
    Fact("R64 R66 purchased credits never expire", top_up_on_lapse, OnLapse.KEEP),
    no("R66 R67 nothing rolls over", rolls_over),
    Fact(
        "R69 draft models, for iterating",
        lambda c: sorted(m for m, t in c.tiers.items() if t == "draft"),
        ["image-draft", "video-draft"],
    ),
    Fact("R69 packs", lambda c: len(c.packs), 3),
]

BASE: Final[Mapping[str, object]] = {
    "free": (16, MONTH),
    "personal": (60, MONTH),
    "personal-annual": (720, YEAR),
    "team": (150, MONTH),
    "team-annual": (1800, YEAR),
    "enterprise": (0, MONTH),
}

AISTUDIOS = [
    Fact("R70 an image", price("image.generate", "", 3), 3),
    Fact("R71 five seconds of video", price("video.generate", "", 5), 5),
    Fact("R71 ten seconds of video", price("video.generate", "", 10), 10),
    Fact("R73 premium media cost", price("video.from-topic", "media-premium"), 1),
    Fact("R73 the basic model is free", price("video.from-topic", "media-basic", 9), 0),
    Fact("R73 the media decides", price("video.from-topic"), None),
    Fact("R74 Docs to Video is free", price("video.from-docs"), 0),
    Fact("R74 an avatar is free", price("video.from-avatar", "", 60), 0),
    Fact("R74 text to speech is free", price("speech.generate", "", 1000), 0),
    Fact("R75 R76 R77 what each plan grants", grants("base"), BASE),
    Fact("R75 R76 Team by seats", seats("base"), ["team", "team-annual"]),
    Fact(
        "R77 billed as they are granted",
        lambda c: {p.name: p.billing for p in c.plans.plans if p.subscription},
        {
            "personal": MONTH,
            "personal-annual": YEAR,
            "team": MONTH,
            "team-annual": YEAR,
            "enterprise": MONTH,
        },
    ),
    no("R78 R85 nothing rolls over", rolls_over),
    Fact(
        "R78 what is left ends",
        lambda c: {g.on_lapse for p in c.plans.plans for g in p.grants},
        {OnLapse.EXPIRE},
    ),
    Fact(
        "R79 units end with base credits",
        lambda c: {p: e is grant(c, p, "base").every for p, e in unit(c).every.items()},
        dict.fromkeys(["personal", "personal-annual", "team", "team-annual"], True),
    ),
    Fact(
        "R82 R83 a unit",
        lambda c: {p: a for p, a in unit(c).amounts.items() if not p.endswith("annual")},
        {"personal": 60, "team": 200},
    ),
    Fact(
        "R82 R88 per user at Personal", lambda c: unit(c).per_seat, {"personal", "personal-annual"}
    ),
    Fact("R87 a unit ends with the subscription", lambda c: unit(c).on_lapse, OnLapse.EXPIRE),
    Fact(
        "R87 a unit needs a subscription",
        lambda c: [p for p in unit(c).amounts if not c.plans.by_name[p].subscription],
        [],
    ),
    Fact("no top-ups", lambda c: c.packs, ()),
]

FACTS: Final[Mapping[str, list[Fact]]] = {
    "recraft": RECRAFT,
    "imagineart": IMAGINEART,
    "imagineart-2024": IMAGINEART_2024,
    "clickraft": CLICKRAFT,
    "aistudios": AISTUDIOS,
}
