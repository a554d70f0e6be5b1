"""Reads a catalog from its TOML file. `recraft.toml` beside this module shows every part of one.

    [credit]    unit, decimals (0 to 9, default 0), rounding (up, down or half_up; default up)
    [kinds]     each kind with its rank, 1 to 9; the lowest is drawn first (R20, R39, R63)
    [plans]     each plan, the least first: what it grants and allows; beside it [everyone],
                [add_ons], [upgrades] and [seats]: `plans.py` tells of them
    [top_ups]   packs (R23), buyers (anyone or subscribers), on_lapse (keep, freeze or expire)
    [returns]   failed, cancelled (compensate, forfeit or restore_capped), compensation_days
    [hold]      ttl, ttl_max, overage, overdraft_limit, late_settle; each action may have its own
    [quotes]    binds: for how long a quote does (default 15 min)
    [models]    each model with its price, and a tier by which plans may name it
    [actions]   each action with its title and its price

A price is a figure for one unit, or a table: flat, rate, per (the rate is for so many units),
minimum, rounding. In an action it may be "model": equal to the model's price (R11). `models` beside
it lists the models that the action takes, or gives each a price of its own (R73), and `price` is
then that of any other. `settings` multiply the rate (R60). A model may be priced like another:
`same_as`; its tier is then that model's, unless it has its own.

Figures are credits, exact decimals: amounts must be whole units, rates need not be. What is free
says 0 (R10). All that is wrong is reported at once, with its line.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from math import prod
from pathlib import Path
from typing import Final

from creditgate_server.catalogs.document import (
    NAME,
    NAME_RULE,
    CatalogError,
    Document,
    Problem,
    Table,
    did_you_mean,
    duration,
)
from creditgate_server.catalogs.plans import Around, PlansReader
from creditgate_server.catalogs.scale import Scale
from creditgate_server.core.catalog import Action, Catalog, HoldTerms, PricedSetting, Tariff
from creditgate_server.core.commands import Kind, LateSettle, Overage, ReturnPolicy, Rules
from creditgate_server.core.plans import Buyers, OnLapse, Plans
from creditgate_server.core.prices import AMOUNT_MAX, Rounding

__all__ = ["CatalogError", "Problem", "load", "shipped"]

QUANTITY_PRICED: Final = 1_000_000
"""Every job of up to so many units has an amount, whatever its settings. A larger one may pass
2^53 - 1 and is then refused by itself. (The same promise for the largest quantity of the API, 10^9,
would forbid a price of 210 credits in a catalog of 5 decimals.)"""

DENOMINATOR_MAX: Final = 2**52
"""Scripts round by comparing twice a remainder with the denominator, in doubles."""

_NAME_MAX: Final = 64
_PER_MAX: Final = 10**9
_FACTOR_MAX: Final = 10**6
_DECIMALS_MAX: Final = 9
_DAY_MS: Final = 86_400_000
_DAYS_MAX: Final = 3_650
_LIFE_MS_MAX: Final = 30 * _DAY_MS
_QUOTE_MS: Final = 900_000
_DRAWN_FIRST: Final = 0
_DRAWN_LAST: Final = 9
_MODEL: Final = "model"


def shipped() -> tuple[str, ...]:
    """The names of the catalogs that come with creditgate."""
    files = resources.files("creditgate_server.catalogs").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load(name_or_path: str | Path) -> Catalog:
    """Read a catalog: a shipped one such as "recraft", or the file at a path.

    Text is a path if it has a "/" or "." in it.

    Raises `CatalogError` with all that is wrong with it.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and not {"/", "\\", "."} & set(name):
        if name not in shipped():
            listed = ", ".join(shipped())
            raise _unreadable(name, f"no such catalog; there are: {listed}, or give a path")
        file = resources.files("creditgate_server.catalogs") / f"{name}.toml"
        return read(file=file.name, content=file.read_bytes())
    try:
        content = Path(name_or_path).read_bytes()
    except OSError as error:
        raise _unreadable(name, f"cannot be read: {error.strerror}") from error
    return read(file=name, content=content)


def read(*, file: str, content: bytes) -> Catalog:
    """Read a catalog from its text; `file` is its name in problems.

    Raises `CatalogError` with all that is wrong with it.
    """
    return _Reader(Document(file=file, content=content)).catalog()


def _unreadable(file: str, message: str) -> CatalogError:
    return CatalogError((Problem(file=file, line=1, field="", message=message),))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key of a table, to which several actions or models may refer."""

    table: Table
    key: str

    @property
    def value(self) -> object:
        """What stands there, None for nothing."""
        return self.table.get(self.key)

    def problem(self, message: str) -> None:
        """Note what is wrong with it."""
        self.table.problem(message, self.key)


class _Reader:
    """Reads one document, section by section."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._scale = Scale()
        self._rounding = Rounding.UP
        self._models: dict[str, Tariff | None] = {}
        self._tiers: dict[str, str] = {}

    def catalog(self) -> Catalog:
        """The whole file, or `CatalogError` with all of its problems."""
        with self._document.root() as top:
            name = top.text("name")
            if name and not (NAME.fullmatch(name) and len(name) <= _NAME_MAX):
                top.problem(f"a catalog's name is {NAME_RULE}, at most {_NAME_MAX} of them", "name")
            title = top.text("title", default=name)
            unit = self._credit(top.table("credit"))
            kinds, ranks = self._kinds(top)
            rules = self._rules(top.table("returns"), ranks)
            packs, top_ups = self._top_ups(top.table("top_ups"), kinds)
            hold = self._hold(top.table("hold"), HoldTerms())
            quote_ms = self._quote_ms(top.table("quotes"))
            self._read_models(top.table("models"))
            actions = self._actions(top, hold)
            around = Around(
                scale=self._scale,
                kinds=kinds,
                actions=actions,
                models=tuple(self._models),
                tiers=self._tiers,
            )
            plans = PlansReader(top, around).plans(top_ups)
        self._document.raise_problems()
        return Catalog(
            name=name,
            title=title,
            version=f"{name}-{_digest(self._document.data)}",
            unit=unit,
            decimals=self._scale.decimals,
            rules=replace(rules, plans=plans),
            packs=packs,
            kinds=kinds,
            actions=actions,
            tiers=self._tiers,
            quote_ms=quote_ms,
        )

    # Credits: their name, their kinds, how they are sold, held and returned.

    def _credit(self, table: Table) -> str:
        with table:
            unit = table.text("unit", default="credit")
            decimals = table.whole("decimals", low=0, high=_DECIMALS_MAX, default=0)
            self._rounding = table.word("rounding", Rounding, self._rounding)
        self._scale = Scale(decimals)
        return unit

    def _kinds(self, top: Table) -> tuple[tuple[Kind, ...], str]:
        """The kinds in burn-down order, and every kind's digit; those not listed are drawn last."""
        if not top.get("kinds"):
            top.problem("missing: which kinds of credits are drawn, in which order?", "kinds")
        kinds = top.table("kinds")
        known = {kind.name.lower(): kind for kind in Kind}
        ranks = {Kind.COMPENSATION: _DRAWN_FIRST}
        for name, table in kinds.tables():
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                kinds.problem(f"unknown kind{hint}", name)
                continue
            with table:
                ranks[known[name]] = table.whole("rank", low=1, high=9)
        order = (kind for kind in Kind if kind in ranks)
        digits = (str(ranks.get(kind, _DRAWN_LAST)) for kind in Kind)
        return tuple(sorted(order, key=ranks.__getitem__)), "".join(digits)

    def _rules(self, table: Table, ranks: str) -> Rules:
        rules = Rules(ranks=ranks)
        default_days = rules.compensation_ms // _DAY_MS
        with table:
            days = table.whole("compensation_days", low=1, high=_DAYS_MAX, default=default_days)
            return replace(
                rules,
                on_failed=table.word("failed", ReturnPolicy, rules.on_failed),
                on_cancelled=table.word("cancelled", ReturnPolicy, rules.on_cancelled),
                compensation_ms=days * _DAY_MS,
            )

    def _top_ups(self, table: Table, kinds: tuple[Kind, ...]) -> tuple[tuple[int, ...], Plans]:
        """The packs, the smallest first, and what plans say of top-ups, without any plan."""
        packs = set()
        with table:
            buyers = table.word("buyers", Buyers, Buyers.ANYONE)
            on_lapse = table.word("on_lapse", OnLapse, OnLapse.KEEP)
            if on_lapse is OnLapse.RUN_TO_PERIOD_END:
                table.problem("a top-up has no period", "on_lapse")
            if table.get("packs") and Kind.TOP_UP not in kinds:
                table.problem('[kinds] gives "top_up" no rank', "packs")
            for index, figure in enumerate(table.elements("packs")):
                pack = self._scale.units(table, figure, "packs", index)
                if pack == 0:
                    table.problem("a pack holds more than 0", "packs", index)
                elif pack in packs:
                    table.problem("this pack is listed twice", "packs", index)
                elif pack is not None:
                    packs.add(pack)
        return tuple(sorted(packs)), Plans(buyers=buyers, top_up_on_lapse=on_lapse)

    def _quote_ms(self, table: Table) -> int:
        with table:
            return table.duration_ms("binds", low_ms=1_000, high_ms=_DAY_MS, default_ms=_QUOTE_MS)

    def _hold(self, table: Table, default: HoldTerms) -> HoldTerms:
        with table:
            ttl_ms = table.duration_ms(
                "ttl", low_ms=1_000, high_ms=_LIFE_MS_MAX, default_ms=default.ttl_ms
            )
            life_ms_max = table.duration_ms(
                "ttl_max", low_ms=1_000, high_ms=_LIFE_MS_MAX, default_ms=default.life_ms_max
            )
            stated = [key for key in ("ttl", "ttl_max") if key in table]
            if ttl_ms > life_ms_max and stated:
                table.problem(
                    f"ttl ({duration(ttl_ms)}) is above ttl_max ({duration(life_ms_max)})",
                    stated[0],
                )
            overage = table.word("overage", Overage, default.overage)
            limit = self._scale.amount(table, "overdraft_limit", default.overdraft_limit)
            if "overage" in table and overage is Overage.OVERDRAFT and limit == 0:
                table.problem("an overdraft needs a limit above 0", "overdraft_limit")
            return HoldTerms(
                ttl_ms=ttl_ms,
                life_ms_max=life_ms_max,
                overage=overage,
                overdraft_limit=limit,
                late_settle=table.word("late_settle", LateSettle, default.late_settle),
            )

    # Models: each has a price, or that of another.

    def _read_models(self, models: Table) -> None:
        """Fill `_models`, in the file's order; None for a model about which a problem is noted."""
        same_as: dict[str, str] = {}
        for name, table in models.tables():
            with table:
                if "tier" in table:
                    self._tiers[name] = table.text("tier")
                if "same_as" in table:
                    self._models[name] = None
                    if other := table.text("same_as"):
                        same_as[name] = other
                    for key in ("price", "unit", "settings"):
                        if key in table:
                            table.problem("same_as says it already", key)
                else:
                    entry, base = _Entry(table, "price"), self._base(table, unit=table.text("unit"))
                    if entry.value is None:
                        entry.problem("missing: a model that costs nothing says 0")
                    self._models[name] = self._tariff(entry, base)
        for name in same_as:
            self._models[name] = self._same(models, name, same_as)

    def _same(self, models: Table, name: str, same_as: Mapping[str, str]) -> Tariff | None:
        """The tariff at the end of the chain that starts at a model."""
        models.reference(same_as[name], self._models, "model", name, "same_as")
        passed = [name]
        while passed[-1] in same_as:
            following = same_as[passed[-1]]
            if following in passed:
                models.problem(f"a circle: {' = '.join([*passed, following])}", name, "same_as")
                return None
            passed.append(following)
        tier = next((self._tiers[each] for each in passed if each in self._tiers), None)
        if tier is not None:
            self._tiers[name] = tier
        return self._models.get(passed[-1])

    # Actions: each has a price, that of the model, or one for each model.

    def _actions(self, top: Table, hold: HoldTerms) -> tuple[Action, ...]:
        if not top.get("actions"):
            top.problem("missing: what can a job do, and what does it cost?", "actions")
        actions = []
        for name, table in top.table("actions").tables():
            with table:
                actions.append(
                    Action(
                        name=name,
                        title=table.text("title"),
                        tariffs=self._tariffs(table),
                        hold=self._hold(table.table("hold"), hold),
                    )
                )
        return tuple(actions)

    def _tariffs(self, table: Table) -> dict[str, Tariff]:
        """By model, as `Action.tariffs`; without those about which a problem is noted."""
        entries = self._entries(table)
        own = [entry for entry in entries.values() if entry.value != _MODEL]
        if "unit" in table and entries and not own:
            table.problem("the unit is the model's", "unit")
        base = self._base(table, unit=table.text("unit") if own else "")
        tariffs = {
            model: self._of_model(entry, model, table, base)
            if entry.value == _MODEL
            else self._tariff(entry, base)
            for model, entry in entries.items()
        }
        return {model: tariff for model, tariff in tariffs.items() if tariff is not None}

    def _entries(self, table: Table) -> dict[str, _Entry]:
        """Where the price for each model stands; under "" that for any other model and for none."""
        price, models = _Entry(table, "price"), table.get("models")
        if price.value == _MODEL and not self._models:
            price.problem("equals the model's price, but there are no [models]")
        if price.value is None and not isinstance(models, dict):
            price.problem("missing: an action that costs nothing says 0")
            return {}
        if models is not None and not models:
            table.problem("names no model, so that nobody could use the action", "models")
        if isinstance(models, list):
            return dict.fromkeys(self._listed(table, known=price.value == _MODEL), price)
        by_model = table.table("models")
        entries = {model: _Entry(by_model, model) for model in by_model.names()}
        for model, entry in entries.items():
            if _MODEL in (price.value, entry.value):
                by_model.reference(model, self._models, "model", model)
        if price.value == _MODEL:
            return dict.fromkeys(self._models, price) | entries
        return entries if price.value is None else entries | {"": price}

    def _listed(self, table: Table, *, known: bool) -> list[str]:
        """The models to which an action is limited; `known` demands that each is in [models]."""
        listed: list[str] = []
        for index, model in enumerate(table.elements("models")):
            if not isinstance(model, str) or not NAME.fullmatch(model):
                table.problem(f"a name is {NAME_RULE}", "models", index)
            elif model in listed:
                table.problem("this model is listed twice", "models", index)
            else:
                listed.append(model)
                if known:
                    table.reference(model, self._models, "model", "models", index)
        return listed

    # Prices.

    def _base(self, table: Table, *, unit: str) -> Tariff:
        """What the prices of one action or model have in common."""
        return Tariff(unit=unit, rounding=self._rounding, settings=self._settings(table))

    def _of_model(self, entry: _Entry, model: str, table: Table, base: Tariff) -> Tariff | None:
        """The model's tariff, with the action's settings on top."""
        tariff = self._models.get(model)
        if tariff is None or not base.settings:
            return tariff
        taken = {setting.name for setting in tariff.settings}
        for setting in base.settings:
            if setting.name in taken:
                table.problem(f'model "{model}" has factors for it too', "settings", setting.name)
                return None
        return self._bounded(entry, replace(tariff, settings=tariff.settings + base.settings))

    def _tariff(self, entry: _Entry, base: Tariff) -> Tariff | None:
        """The tariff that a figure or a table of figures says."""
        value = entry.value
        if isinstance(value, dict):
            return self._tariff_of_table(entry, base)
        if isinstance(value, str):
            entry.problem('must be a figure, a table of figures or, in an action, "model"')
        elif value is not None:
            rate = entry.table.figure(value, entry.key)
            if rate is not None:
                return self._bounded(entry, replace(base, rate=rate * self._scale.factor))
        return None

    def _tariff_of_table(self, entry: _Entry, base: Tariff) -> Tariff | None:
        with entry.table.table(entry.key) as table:
            flat, minimum = (
                self._scale.amount(table, "flat", 0),
                self._scale.amount(table, "minimum", 0),
            )
            per = table.whole("per", low=1, high=_PER_MAX, default=1)
            rounding = table.word("rounding", Rounding, base.rounding)
            rate: Fraction | None = Fraction(0)
            if "rate" in table:
                rate = table.figure(table.get("rate"), "rate")
            elif "flat" not in table:
                table.problem("missing: what costs nothing says rate = 0", "rate")
            elif base.settings:
                table.problem("missing: there are settings that multiply it", "rate")
            elif "per" in table:
                table.problem("there is no rate", "per")
        if rate is None:
            return None
        rate *= Fraction(self._scale.factor, per)
        return self._bounded(
            entry, replace(base, flat=flat, rate=rate, minimum=minimum, rounding=rounding)
        )

    def _settings(self, table: Table) -> tuple[PricedSetting, ...]:
        settings = []
        for name, setting in table.table("settings").tables():
            with setting:
                default = setting.text("default") if "default" in setting else ""
                factors = self._factors(setting)
                if default and factors and default not in factors:
                    hint = did_you_mean(default, factors)
                    setting.problem(f'"{default}" has no factor{hint}', "default")
            if factors:
                settings.append(PricedSetting(name=name, default_value=default, factors=factors))
        return tuple(settings)

    def _factors(self, setting: Table) -> dict[str, Decimal]:
        if not setting.get("factors"):
            setting.problem('missing: each value and its factor, as in { "720p" = 1 }', "factors")
        table = setting.table("factors")
        factors = {}
        for value in table.names():
            written = table.get(value)
            figure = table.figure(written, value)
            if figure is not None and figure > _FACTOR_MAX:
                table.problem(f"must be at most {_FACTOR_MAX}", value)
            factors[value] = Decimal(1) if figure is None else _plain(written)
        return factors

    def _bounded(self, entry: _Entry, tariff: Tariff) -> Tariff | None:
        """The tariff, if scripts can work out all of its prices exactly."""
        factors = [list(map(Fraction, setting.factors.values())) for setting in tariff.settings]
        highest = prod(map(max, factors), start=tariff.rate)
        # Not reduced: some combination of settings may come close to it.
        numerator = tariff.rate.numerator * prod(max(f.numerator for f in each) for each in factors)
        denominator = tariff.rate.denominator * prod(
            max(f.denominator for f in each) for each in factors
        )
        if tariff.flat + highest * QUANTITY_PRICED > AMOUNT_MAX:
            entry.problem(f"too high: {QUANTITY_PRICED} of it pass 2^53 - 1 units")
        elif numerator * QUANTITY_PRICED > AMOUNT_MAX or denominator > DENOMINATOR_MAX:
            entry.problem("too many digits in the rate and its factors to work it out exactly")
        else:
            return tariff
        return None


def _plain(figure: object) -> Decimal:
    """A figure as a decimal without needless zeros, so that 1, 1.0 and 1.00 are the same."""
    return abs(Decimal(str(figure)).normalize())


def _digest(data: Mapping[str, object]) -> str:
    """12 characters that differ when the content of a file does.

    Comments, spaces and the spelling of figures (1.50) leave no trace. The order of its lines does,
    for the price list is in the file's order.
    """

    def known(value: object) -> str | int:
        figure = _plain(value)
        return int(figure) if figure == figure.to_integral_value() else f"{figure:f}"

    content = json.dumps(data, default=known, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()
