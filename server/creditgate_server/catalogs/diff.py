"""What a change of catalog changes, for whom and from when on: the answer before a reload.

Prices, gates, packs, purchase rules and ranks change at once, for new holds; allowances change with
the next period of each account. An open hold keeps its price.
"""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Final, TypeAlias

from creditgate_server.catalogs.document import duration
from creditgate_server.core.catalog import Action, Catalog, HoldTerms, PricedSetting, Tariff
from creditgate_server.core.commands import Kind
from creditgate_server.core.plans import AddOn, Plan, Plans, RecurringGrant


class Part(enum.Enum):
    """What part of a catalog a difference is in. They are told in this order."""

    CREDIT = "credit"
    ACTION = "action"
    PRICE = "price"
    PLAN = "plan"
    GATE = "gate"
    ALLOWANCE = "allowance"
    ADD_ON = "add_on"
    TOP_UP = "top_up"
    KIND = "kind"
    HOLD = "hold"
    RETURN = "return"


class Change(enum.Enum):
    """What became of it."""

    ADDED = "added"
    REMOVED = "removed"
    RAISED = "raised"
    LOWERED = "lowered"
    CHANGED = "changed"


class When(enum.Enum):
    """From when on it counts."""

    AT_ONCE = "at once"
    NEXT_PERIOD = "from the next period on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is otherwise in the new catalog. What does not apply is ""."""

    part: Part
    change: Change
    when: When = When.AT_ONCE
    plan: str = ""
    action: str = ""
    model: str = ""
    name: str = ""
    """Of the setting and its value, grant, add-on, pack or rule."""
    old: str = ""
    new: str = ""
    text: str
    """All of it in words, one line."""

    def __str__(self) -> str:
        """Its words."""
        return self.text


def diff(old: Catalog, new: Catalog) -> list[Difference]:
    """All that differs between two catalogs, in the order of `Part`; none if they are equal.

    Titles and comments are no difference.
    """
    teller = _Teller(old, new)
    found = chain(
        teller.credit(),
        teller.actions(),
        teller.plans(),
        teller.gates(),
        teller.allowances(),
        teller.add_ons(),
        teller.top_ups(),
        teller.kinds(),
        teller.holds(),
        teller.returns(),
    )
    order = list(Part)
    return sorted(found, key=lambda difference: order.index(difference.part))


_NOTHING: Final = "none"

_Figure: TypeAlias = Callable[[Fraction | int], str]
"""Units as credits, in words."""


@dataclass(frozen=True, slots=True)
class _At:
    """An action with a model, whose price is told of."""

    action: str
    model: str

    @property
    def job(self) -> str:
        """Both in words."""
        return f"{self.action} with {self.model}" if self.model else self.action

    def told(
        self, text: str, *, change: Change, name: str = "", old: str = "", new: str = ""
    ) -> Difference:
        """A difference of its price."""
        return Difference(
            part=Part.PRICE,
            change=change,
            action=self.action,
            model=self.model,
            name=name,
            old=old,
            new=new,
            text=text,
        )


class _Teller:
    """Compares two catalogs, part by part."""

    def __init__(self, old: Catalog, new: Catalog) -> None:
        self._old = old
        self._new = new
        self._old_actions = {action.name: action for action in old.actions}
        self._new_actions = {action.name: action for action in new.actions}

    # Figures: units as credits, each by its own catalog.

    def _before(self, units: Fraction | int) -> str:
        return _credits(units, self._old.decimals)

    def _after(self, units: Fraction | int) -> str:
        return _credits(units, self._new.decimals)

    def credit(self) -> Iterator[Difference]:
        """The name of a credit, and how many units it has."""
        old, new = self._old, self._new
        if old.unit != new.unit:
            yield _difference(
                f"a credit is called {new.unit} instead of {old.unit}",
                part=Part.CREDIT,
                name="unit",
                old=old.unit,
                new=new.unit,
            )
        if old.decimals != new.decimals:
            yield _difference(
                f"1 credit is 10^{new.decimals} units instead of 10^{old.decimals}: what accounts "
                "hold is counted in units and is not converted",
                part=Part.CREDIT,
                name="decimals",
                old=str(old.decimals),
                new=str(new.decimals),
            )

    # Actions and prices.

    def actions(self) -> Iterator[Difference]:
        """Actions that come and go, and the prices of those that stay."""
        for name in (name for name in self._old_actions if name not in self._new_actions):
            text = f"{name}: gone; new jobs are denied as UNPRICED_ACTION, open ones finish"
            yield _difference(text, part=Part.ACTION, change=Change.REMOVED, action=name)
        for action in self._new.actions:
            before = self._old_actions.get(action.name)
            if before is None:
                yield from self._new_action(action)
            else:
                yield from self._prices(before, action)

    def _new_action(self, action: Action) -> Iterator[Difference]:
        for model, tariff in action.tariffs.items():
            price = self._price(tariff, self._after)
            yield _difference(
                f"{_At(action.name, model).job}: new, {price}",
                part=Part.ACTION,
                change=Change.ADDED,
                action=action.name,
                model=model,
                new=price,
            )

    def _prices(self, before: Action, after: Action) -> Iterator[Difference]:
        for model in dict.fromkeys((*before.tariffs, *after.tariffs)):
            # A model that is not named costs what any other does, where there is such a price.
            old, new = before.tariff(model), after.tariff(model)
            at = _At(after.name, model)
            if old is not None and new is not None:
                yield from self._price_change(at, old, new)
                yield from self._settings(at, old, new)
            elif new is not None:
                price = self._price(new, self._after)
                yield at.told(f"{at.job}: new, {price}", change=Change.ADDED, new=price)
            elif old is not None:
                price = self._price(old, self._before)
                text = f"{at.job}: has no price any more, and is denied; it was {price}"
                yield at.told(text, change=Change.REMOVED, old=price)

    def _price_change(self, at: _At, old: Tariff, new: Tariff) -> Iterator[Difference]:
        price, price_new = self._price(old, self._before), self._price(new, self._after)
        if price != price_new:
            change = _direction(old, new)
            text = f"{at.job}: {price} → {price_new}"
            yield at.told(_with(text, change), change=change, old=price, new=price_new)
        rounding, rounding_new = _rounding(old), _rounding(new)
        if old.rounding is not new.rounding and (_is_fine(old) or _is_fine(new)):
            text = f"{at.job}: rounded {rounding} → {rounding_new}"
            yield at.told(
                text, change=Change.CHANGED, name="rounding", old=rounding, new=rounding_new
            )

    def _settings(self, at: _At, old: Tariff, new: Tariff) -> Iterator[Difference]:
        was = {setting.name: setting for setting in old.settings}
        now = {setting.name: setting for setting in new.settings}
        for name in dict.fromkeys((*was, *now)):
            if name not in now:
                text = f"{at.job}: {name} does not count any more"
                yield at.told(text, change=Change.REMOVED, name=name)
            elif name not in was:
                default = now[name].default_value
                must = (
                    f"it is {default} where a job does not say" if default else "a job must say it"
                )
                text = f"{at.job}: {name} counts, {must}"
                yield at.told(text, change=Change.ADDED, name=name, new=default)
                yield from self._values(at, PricedSetting(name=name, factors={}), now[name])
            else:
                yield from self._values(at, was[name], now[name])

    def _values(self, at: _At, was: PricedSetting, now: PricedSetting) -> Iterator[Difference]:
        if was.factors and was.default_value != now.default_value:
            default, default_new = was.default_value or "denied", now.default_value or "denied"
            yield at.told(
                f"{at.job}: where a job says no {now.name}: {default} → {default_new}",
                change=Change.CHANGED,
                name=now.name,
                old=was.default_value,
                new=now.default_value,
            )
        before, after = was.factor_texts, now.factor_texts
        for value in dict.fromkeys((*before, *after)):
            name = f"{now.name}={value}"
            old, new = before.get(value, ""), after.get(value, "")
            if not new:
                text = f"{at.job}, {name}: has no price any more, and is denied"
                yield at.told(text, change=Change.REMOVED, name=name, old=old)
            elif not old:
                yield at.told(
                    f"{at.job}, {name}: new, times {new}", change=Change.ADDED, name=name, new=new
                )
            elif old != new:
                up = now.factors[value] > was.factors[value]
                change = Change.RAISED if up else Change.LOWERED
                text = _with(f"{at.job}, {name}: times {old} → times {new}", change)
                yield at.told(text, change=change, name=name, old=old, new=new)

    def _price(self, tariff: Tariff, figure: _Figure) -> str:
        """A tariff in words, such as "2 per image, at least 5"."""
        parts = []
        if tariff.flat:
            parts.append(f"{figure(tariff.flat)} flat")
        if tariff.rate or not tariff.flat:
            parts.append(f"{figure(tariff.rate)} per {tariff.unit}")
        text = " and ".join(parts)
        if tariff.minimum:
            text += f", at least {figure(tariff.minimum)}"
        return text

    # Plans.

    def plans(self) -> Iterator[Difference]:
        """Plans that come and go, their order, and how they are had."""
        old, new = self._old.plans, self._new.plans
        for name in (plan.name for plan in old.plans if plan.name not in new.by_name):
            text = (
                f"plan {name}: gone; accounts on it are granted nothing more, and run what needs "
                "no plan"
            )
            yield _difference(text, part=Part.PLAN, change=Change.REMOVED, plan=name)
        for plan in new.plans:
            was = old.by_name.get(plan.name)
            if was is None:
                text = f"plan {plan.name}: new"
                yield _difference(text, part=Part.PLAN, change=Change.ADDED, plan=plan.name)
            else:
                yield from _changed_rules(f"plan {plan.name}", _had(was), _had(plan), of=plan.name)
        yield from _changed_rules("plans", _between(old), _between(new))
        order = [plan.name for plan in old.plans if plan.name in new.by_name]
        order_new = [plan.name for plan in new.plans if plan.name in old.by_name]
        if order != order_new:
            yield _difference(
                f"plans, the least first: {', '.join(order)} → {', '.join(order_new)}: what is an "
                "upgrade changes",
                part=Part.PLAN,
                name="order",
                old=", ".join(order),
                new=", ".join(order_new),
            )

    def gates(self) -> Iterator[Difference]:
        """What the accounts of a plan cannot run any more, or can run from now on."""
        old, new = self._old.plans, self._new.plans
        for plan in new.plans:
            was = old.by_name.get(plan.name)
            if was is not None or not old.plans:
                yield from self._gate(was, plan)

    def _gate(self, was: Plan | None, plan: Plan) -> Iterator[Difference]:
        """Of actions and models that both catalogs price. Without plans, everybody ran all."""
        for action in self._new.actions:
            before = self._old_actions.get(action.name)
            models = [m for m in action.tariffs if before is not None and before.tariff(m)]
            allowed = {m for m in models if was is None or was.allows(action.name, m)}
            allows = {m for m in models if plan.allows(action.name, m)}
            for lost, changed, whole in (
                (True, allowed - allows, not allows),
                (False, allows - allowed, not allowed and allows == set(models)),
            ):
                # The action as such, where the plan is left with nothing of it or is given all.
                for model in [""] if whole and changed else sorted(changed):
                    can = "can no longer run" if lost else "can run"
                    job = _At(action.name, model).job
                    yield _difference(
                        f"plan {plan.name}: {can} {job}",
                        part=Part.GATE,
                        change=Change.REMOVED if lost else Change.ADDED,
                        plan=plan.name,
                        action=action.name,
                        model=model,
                    )
        most, most_new = (was.open_holds_max if was else 0), plan.open_holds_max
        if most != most_new:
            fewer = most_new != 0 and (most == 0 or most_new < most)
            change = Change.LOWERED if fewer else Change.RAISED
            shown, shown_new = str(most or "any number"), str(most_new or "any number")
            yield _difference(
                _with(f"plan {plan.name}: jobs at once: {shown} → {shown_new}", change),
                part=Part.GATE,
                change=change,
                plan=plan.name,
                name="open_holds_max",
                old=shown,
                new=shown_new,
            )

    def allowances(self) -> Iterator[Difference]:
        """What plans grant, from the next period on."""
        for plan in self._new.plans.plans:
            was = self._old.plans.by_name.get(plan.name)
            before = {grant.name: grant for grant in was.grants} if was else {}
            after = {grant.name: grant for grant in plan.grants}
            for name in dict.fromkeys((*before, *after)):
                yield from self._allowance(plan.name, name, before.get(name), after.get(name))

    def _allowance(
        self, plan: str, name: str, was: RecurringGrant | None, now: RecurringGrant | None
    ) -> Iterator[Difference]:
        old = "" if was is None else _allowance(was, self._before)
        new = "" if now is None else _allowance(now, self._after)
        what, when = f"plan {plan}, {name}", When.NEXT_PERIOD
        change = Change.CHANGED
        if was is None:
            text, change = f"new, {new}", Change.ADDED
            if plan not in self._old.plans.by_name:
                when = When.AT_ONCE
        elif now is None:
            text, change = f"gone, it was {old}", Change.REMOVED
        else:
            alike = (was.every, was.per_seat) == (now.every, now.per_seat)
            if alike and was.amount and now.amount:
                change = _compared(was.amount, now.amount)
            if was.kind != now.kind:
                kinds = (Kind(grant.kind).name.lower() for grant in (was, now))
                old, new = (f"{said}, {kind}" for said, kind in zip((old, new), kinds, strict=True))
            text = f"{old} → {new}"
            lapses = ({"on_lapse": grant.on_lapse.value} for grant in (was, now))
            yield from _changed_rules(what, *lapses, part=Part.ALLOWANCE, of=plan)
        if old != new:
            yield _difference(
                f"{what}: {_with(text, change)}, {when.value}",
                part=Part.ALLOWANCE,
                change=change,
                when=when,
                plan=plan,
                name=name,
                old=old,
                new=new,
            )

    def add_ons(self) -> Iterator[Difference]:
        """What a unit is in a plan, from the next period on."""
        old, new = self._old.plans.add_on_by_name, self._new.plans.add_on_by_name
        for name in dict.fromkeys((*old, *new)):
            was, now = _units(old.get(name), self._before), _units(new.get(name), self._after)
            for plan in dict.fromkeys((*was, *now)):
                before, after = was.get(plan, _NOTHING), now.get(plan, _NOTHING)
                if before != after:
                    when = When.NEXT_PERIOD
                    yield _difference(
                        f"add-on {name}, a unit in plan {plan}: {before} → {after}, {when.value}",
                        part=Part.ADD_ON,
                        change=_came(before, after),
                        when=when,
                        plan=plan,
                        name=name,
                        old=before,
                        new=after,
                    )

    # What holds for all accounts.

    def top_ups(self) -> Iterator[Difference]:
        """Packs, and who may buy them."""
        for pack in self._old.packs:
            if pack not in self._new.packs:
                shown = self._before(pack)
                text = f"pack of {shown}: gone"
                yield _difference(
                    text, part=Part.TOP_UP, change=Change.REMOVED, name="pack", old=shown
                )
        for pack in self._new.packs:
            if pack not in self._old.packs:
                shown = self._after(pack)
                text = f"pack of {shown}: new"
                yield _difference(
                    text, part=Part.TOP_UP, change=Change.ADDED, name="pack", new=shown
                )
        old, new = (
            {"buyers": plans.buyers.value, "on_lapse": plans.top_up_on_lapse.value}
            for plans in (self._old.plans, self._new.plans)
        )
        yield from _changed_rules("top-ups", old, new, part=Part.TOP_UP)

    def kinds(self) -> Iterator[Difference]:
        """The burn-down order: it holds at once, for buckets that exist too."""
        for index, kind in enumerate(Kind):
            rank, rank_new = _rank(self._old, index), _rank(self._new, index)
            if rank != rank_new:
                name = kind.name.lower()
                yield _difference(
                    f"kind {name}: {rank} → {rank_new}, at once for every bucket of it",
                    part=Part.KIND,
                    name=name,
                    old=rank,
                    new=rank_new,
                )

    def holds(self) -> Iterator[Difference]:
        """How new holds live, by action, and how long quotes bind."""
        for name, action in self._new_actions.items():
            before = self._old_actions.get(name)
            if before is not None:
                old = _held(before.hold, self._before)
                new = _held(action.hold, self._after)
                yield from _changed_rules(name, old, new, part=Part.HOLD, of=name)
        old, new = ({"binds": duration(each.quote_ms)} for each in (self._old, self._new))
        yield from _changed_rules("quotes", old, new, part=Part.HOLD)

    def returns(self) -> Iterator[Difference]:
        """What becomes of credits that come back to an ended bucket."""
        old, new = (
            {
                "failed": each.rules.on_failed.value,
                "cancelled": each.rules.on_cancelled.value,
                "compensation_days": str(each.rules.compensation_ms // 86_400_000),
            }
            for each in (self._old, self._new)
        )
        yield from _changed_rules("returns", old, new, part=Part.RETURN)


def _difference(
    text: str,
    *,
    part: Part,
    change: Change = Change.CHANGED,
    when: When = When.AT_ONCE,
    **what: str,
) -> Difference:
    return Difference(text=text, part=part, change=change, when=when, **what)


def _changed_rules(
    what: str,
    old: Mapping[str, str],
    new: Mapping[str, str],
    *,
    part: Part = Part.PLAN,
    of: str = "",
) -> Iterator[Difference]:
    """A difference for each rule that says something else; `of` is the plan, or a hold's action."""
    for name, said in old.items():
        if said != new[name]:
            yield _difference(
                f"{what}, {name}: {said} → {new[name]}",
                part=part,
                plan="" if part is Part.HOLD else of,
                action=of if part is Part.HOLD else "",
                name=name,
                old=said,
                new=new[name],
            )


def _held(hold: HoldTerms, figure: _Figure) -> dict[str, str]:
    """How holds live."""
    return {
        "ttl": duration(hold.ttl_ms),
        "ttl_max": duration(hold.life_ms_max),
        "overage": hold.overage.value,
        "overdraft_limit": figure(hold.overdraft_limit),
        "late_settle": hold.late_settle.value,
    }


def _had(plan: Plan) -> dict[str, str]:
    """How a plan is had."""
    return {
        "subscription": "yes" if plan.subscription else "no",
        "billing": plan.billing.value if plan.subscription else _NOTHING,
    }


def _between(plans: Plans) -> dict[str, str]:
    """The rules between plans."""
    return {
        "default": plans.default or _NOTHING,
        "upgrades": plans.upgrade.value,
        "seats": plans.seat_share.value,
    }


def _allowance(grant: RecurringGrant, figure: _Figure) -> str:
    """A grant in words, such as "150 for each seat a month"."""
    words = [figure(grant.amount) if grant.amount else "as contracted"]
    if grant.per_seat:
        words.append("for each seat")
    words.append(f"a {grant.every.value}")
    if grant.rollover_max:
        words.append(f"and up to {figure(grant.rollover_max)} of what was left")
    words.extend(f"for {', '.join(limit)}" for limit in (grant.actions, grant.models) if limit)
    return " ".join(words)


def _rank(catalog: Catalog, index: int) -> str:
    if list(Kind)[index] in catalog.kinds:
        return f"rank {catalog.rules.ranks[index]}"
    return "not listed, drawn last"


def _units(add_on: AddOn | None, figure: _Figure) -> dict[str, str]:
    """What a unit of an add-on is, by plan."""
    if add_on is None:
        return {}
    return {
        plan: f"{figure(amount)}{' for each seat' if plan in add_on.per_seat else ''} "
        f"a {add_on.every[plan].value} (on lapse {add_on.on_lapse.value})"
        for plan, amount in add_on.amounts.items()
    }


def _came(before: str, after: str) -> Change:
    if before == _NOTHING:
        return Change.ADDED
    return Change.REMOVED if after == _NOTHING else Change.CHANGED


def _rounding(tariff: Tariff) -> str:
    return tariff.rounding.name.lower().replace("_", " ")


def _is_fine(tariff: Tariff) -> bool:
    """Whether a job's price may have a fraction of a unit to round."""
    factors = chain.from_iterable(setting.factors.values() for setting in tariff.settings)
    return tariff.rate.denominator > 1 or any(factor % 1 for factor in factors)


def _compared(old: int, new: int) -> Change:
    if old == new:
        return Change.CHANGED
    return Change.RAISED if new > old else Change.LOWERED


def _direction(old: Tariff, new: Tariff) -> Change:
    """Whether every job costs as much or more, or as much or less; else it depends on the job."""
    if old.unit != new.unit:
        return Change.CHANGED
    pairs = ((old.flat, new.flat), (old.rate, new.rate), (old.minimum, new.minimum))
    if all(after >= before for before, after in pairs):
        return Change.RAISED
    return Change.LOWERED if all(after <= before for before, after in pairs) else Change.CHANGED


def _with(text: str, change: Change) -> str:
    """The words with what it means for the one who reads them."""
    ends = {Change.RAISED: " (up)", Change.LOWERED: " (down)"}
    return text + ends.get(change, "")


def _credits(units: Fraction | int, decimals: int) -> str:
    """Units as credits: a plain decimal where there is one, else a fraction."""
    exact = Fraction(units) / 10**decimals
    rest = exact.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{exact.numerator:,}/{exact.denominator:,}"
    places = 0
    while (exact * 10**places).denominator != 1:
        places += 1
    whole, digits = divmod(int(exact * 10**places), 10**places)
    return f"{whole:,}.{digits:0{places}}" if places else f"{whole:,}"
