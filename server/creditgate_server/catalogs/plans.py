"""Reads the plans of a catalog, and what stands beside them.

    [plans.<id>]                each plan, the least first
        title
        default                 true for the one where accounts begin, and fall to at the end
        subscription            true if having it is a subscription; then
        billing                 month, quarter or year (default month): at whose end it may be left
        actions                 those that it allows; without, all
        models, tiers           those that it allows, by name or by tier; without both, all
        open_holds_max          how many jobs may run at once; without, any number
    [plans.<id>.grants.<name>]  a bucket that is filled anew each period
        kind
        amount                  a figure, or "contract": what Subscribe says for the account (R75)
        every                   day, week, month, quarter or year
        per                     account (default) or seat
        rollover                "none" (default, R16), or the most that goes into the next period
        on_lapse                keep, freeze, expire (default) or run_to_period_end
        actions, models         those that it pays; without, all
    [everyone.grants.<name>]    the same, for all plans (R31)
    [add_ons.<id>]              title, on_lapse
    [add_ons.<id>.plans.<id>]   what a unit is in a plan (R81): amount, per, every (as it is billed)
    [upgrades]                  gives: difference (default) or restart
    [seats]                     share of one that is added: full (default) or prorated

Grants of one name are one bucket, which goes on through a change of plan.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from creditgate_server.catalogs.document import Table, did_you_mean
from creditgate_server.catalogs.scale import Scale
from creditgate_server.core.calendar import Every
from creditgate_server.core.catalog import Action
from creditgate_server.core.commands import Kind
from creditgate_server.core.plans import (
    AddOn,
    OnLapse,
    Plan,
    Plans,
    RecurringGrant,
    SeatShare,
    Upgrade,
)

_NAME_MAX: Final = 64
"""Of a grant: a row is named after it and the number of its period."""

_HOLDS_MAX: Final = 1_000_000
_CONTRACT: Final = "contract"
_NO_ROLLOVER: Final = "none"


class _Billing(enum.Enum):
    MONTH = Every.MONTH
    QUARTER = Every.QUARTER
    YEAR = Every.YEAR


class _Per(enum.Enum):
    ACCOUNT = enum.auto()
    SEAT = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the rest of the file says, as far as plans may refer to it."""

    scale: Scale
    kinds: tuple[Kind, ...]
    """Those with a rank."""
    actions: tuple[Action, ...]
    models: tuple[str, ...]
    """Those of [models]; actions may name others."""
    tiers: Mapping[str, str]


class PlansReader:
    """Reads the plans' sections of one file."""

    def __init__(self, top: Table, around: Around) -> None:
        self._top = top
        self._around = around
        self._scale = around.scale
        self._actions = [action.name for action in around.actions]
        priced = (model for action in around.actions for model in action.tariffs if model)
        self._models = dict.fromkeys((*around.models, *priced))
        self._tiers = dict.fromkeys(around.tiers.values())
        self._kinds: dict[str, tuple[str, str]] = {}
        """By the name of a grant: its kind, and where it was first said."""

    def plans(self, top_ups: Plans) -> Plans:
        """All of it; `top_ups` says what the section of that name does."""
        top = self._top
        shared = tuple(self._grants(top.table("everyone"), "everyone", subscription=None))
        plans = tuple(
            self._plan(name, table, shared) for name, table in top.table("plans").tables()
        )
        add_ons = tuple(
            self._add_on(name, table, {plan.name: plan for plan in plans})
            for name, table in top.table("add_ons").tables()
        )
        with top.table("upgrades") as upgrades, top.table("seats") as seats:
            found = replace(
                top_ups,
                plans=plans,
                default=self._default(plans),
                add_ons=add_ons,
                upgrade=upgrades.word("gives", Upgrade, Upgrade.DIFFERENCE),
                seat_share=seats.word("share", SeatShare, SeatShare.FULL),
            )
        self._check(found, shared)
        return found

    def _default(self, plans: tuple[Plan, ...]) -> str:
        section = self._top.table("plans")
        defaults = [plan for plan in plans if section.table(plan.name).get("default") is True]
        for plan in defaults:
            if plan.subscription:
                section.problem("the default is where subscriptions end", plan.name, "subscription")
        for plan in defaults[1:]:
            section.problem(f'"{defaults[0].name}" is the default already', plan.name, "default")
        if plans and not defaults:
            section.problem("none of them says default = true: where do accounts begin?")
        return defaults[0].name if defaults else ""

    def _check(self, found: Plans, shared: tuple[RecurringGrant, ...]) -> None:
        """What several sections together make impossible."""
        top = self._top
        if shared and not found.plans:
            top.problem("there are no [plans] to have it with", "everyone", "grants")
        paid = any(plan.subscription for plan in found.plans)
        if top.table("top_ups").get("buyers") == "subscribers" and not paid:
            top.problem("no plan is a subscription: nobody could buy", "top_ups", "buyers")
        by_tier = [name for name, plan in top.table("plans").tables() if "tiers" in plan]
        for model in self._around.models if by_tier else ():
            if model not in self._around.tiers:
                why = f'missing: plan "{by_tier[0]}" allows models by their tier'
                top.problem(why, "models", model, "tier")
        # A list that could not be read allows nothing, which is no second problem.
        for action in self._around.actions if found.plans and top.sound else ():
            self._check_reach(action, found.plans)

    def _check_reach(self, action: Action, plans: tuple[Plan, ...]) -> None:
        closed = [
            model
            for model in action.tariffs
            if not any(plan.allows(action.name, model) for plan in plans)
        ]
        if closed and len(closed) == len(action.tariffs):
            self._top.problem("no plan allows it", "actions", action.name)
        elif closed:
            self._top.problem(f'no plan allows it with "{closed[0]}"', "actions", action.name)

    # Plans.

    def _plan(self, name: str, table: Table, shared: tuple[RecurringGrant, ...]) -> Plan:
        with table:
            table.flag("default")
            subscription = table.flag("subscription")
            if "billing" in table and not subscription:
                table.problem("only a subscription is billed", "billing")
            actions = table.references("actions", self._actions, "action")
            plan = Plan(
                name=name,
                title=table.text("title"),
                subscription=subscription,
                billing=table.word("billing", _Billing, _Billing.MONTH).value,
                actions=frozenset(actions) if "actions" in table else None,
                models=self._allowed_models(table),
                open_holds_max=table.whole("open_holds_max", low=1, high=_HOLDS_MAX, default=0),
            )
            own = tuple(self._grants(table, f"plans.{name}", subscription=subscription))
        for grant in own:
            if grant.actions and not any(map(plan.allows_action, grant.actions)):
                table.problem("the plan allows none of them", "grants", grant.name, "actions")
            if any(grant.name == other.name for other in shared):
                table.problem("everyone has a grant of this name", "grants", grant.name)
        # The plan's own come first: by its first grant the periods of members' limits are counted.
        return replace(plan, grants=own + shared)

    def _allowed_models(self, table: Table) -> frozenset[str] | None:
        models = table.references("models", self._models, "model")
        tiers = table.references("tiers", self._tiers, "tier")
        if "models" not in table and "tiers" not in table:
            return None
        in_tiers = (model for model, tier in self._around.tiers.items() if tier in tiers)
        return frozenset({*models, *in_tiers})

    # Grants.

    def _grants(
        self, table: Table, owner: str, *, subscription: bool | None
    ) -> Iterator[RecurringGrant]:
        """What a table's `grants` say; `subscription` None where it is for plans of both sorts."""
        section = table.table("grants")
        if owner == "everyone":
            with table:
                table.get("grants")
        for name, grant in section.tables():
            with grant:
                yield self._grant(name, grant, owner, subscription=subscription)

    def _grant(
        self, name: str, table: Table, owner: str, *, subscription: bool | None
    ) -> RecurringGrant:
        if len(name) > _NAME_MAX:
            table.problem(f"a grant's name has at most {_NAME_MAX} characters")
        every = Every.MONTH
        if "every" in table:
            every = table.word("every", Every, every)
        else:
            table.problem("missing: how often is it filled?", "every")
        per_seat = self._per_seat(table)
        if per_seat and subscription is False:
            table.problem("only a subscription has seats", "per")
        return RecurringGrant(
            name=name,
            kind=self._kind(name, table, owner),
            amount=self._granted(
                table, no_contract="" if subscription else "only a subscription is by contract"
            ),
            every=every,
            per_seat=per_seat,
            rollover_max=self._rollover_max(table),
            on_lapse=table.word("on_lapse", OnLapse, OnLapse.EXPIRE),
            actions=tuple(table.references("actions", self._actions, "action")),
            models=tuple(table.references("models", self._models, "model")),
        )

    def _kind(self, name: str, table: Table, owner: str) -> str:
        said = table.text("kind")
        known = {kind.name.lower(): kind for kind in Kind if kind is not Kind.COMPENSATION}
        if said and said not in known:
            hint = did_you_mean(said, known) or f"; there are {', '.join(known)}"
            table.problem(f"unknown kind{hint}", "kind")
        elif said and known[said] not in self._around.kinds:
            table.problem(f'[kinds] gives "{said}" no rank', "kind")
        elif said:
            before, where = self._kinds.setdefault(name, (said, owner))
            if before != said:
                why = f'"{name}" is "{before}" in {where}: grants of one name are one bucket'
                table.problem(why, "kind")
            return str(known[said].value)
        return str(Kind.FREE.value)

    def _granted(self, table: Table, *, no_contract: str = "") -> int:
        """The amount of a grant or of a unit; 0 where a contract says it.

        `no_contract` is why a contract cannot, "" if it can.
        """
        if "amount" not in table:
            table.problem("missing", "amount")
        elif table.get("amount") == _CONTRACT:
            if no_contract:
                table.problem(no_contract, "amount")
        elif self._scale.units(table, table.get("amount"), "amount") == 0:
            table.problem("grants nothing", "amount")
        else:
            return self._scale.amount(table, "amount", 0)
        return 0

    def _rollover_max(self, table: Table) -> int:
        said = table.get("rollover")
        if isinstance(said, str) and said != _NO_ROLLOVER:
            table.problem('must be "none", or the most that goes over', "rollover")
        if said is None or isinstance(said, str):
            return 0
        return self._scale.amount(table, "rollover", 0)

    def _per_seat(self, table: Table) -> bool:
        return table.word("per", _Per, _Per.ACCOUNT) is _Per.SEAT

    # Add-ons.

    def _add_on(self, name: str, table: Table, plans: Mapping[str, Plan]) -> AddOn:
        amounts: dict[str, int] = {}
        every: dict[str, Every] = {}
        per_seat = set()
        if len(name) > _NAME_MAX:
            table.problem(f"an add-on's name has at most {_NAME_MAX} characters")
        if Kind.ADD_ON not in self._around.kinds:
            table.problem('[kinds] gives "add_on" no rank')
        if name in self._kinds:
            table.problem(f"a grant has this name in {self._kinds[name][1]}")
        with table:
            title = table.text("title")
            on_lapse = table.word("on_lapse", OnLapse, OnLapse.EXPIRE)
            fits = table.table("plans")
            if not table.get("plans"):
                table.problem("missing: to which plans can it be added?", "plans")
            for plan, unit in fits.tables():
                known = fits.reference(plan, plans, "plan", plan)
                if known and not plans[plan].subscription:
                    fits.problem("it is no subscription (R87)", plan)
                with unit:
                    amounts[plan] = self._granted(unit, no_contract="a unit is never by contract")
                    billing = plans[plan].billing if known else Every.MONTH
                    every[plan] = unit.word("every", Every, billing)
                    if self._per_seat(unit):
                        per_seat.add(plan)
        return AddOn(
            name=name,
            title=title,
            amounts=amounts,
            every=every,
            per_seat=frozenset(per_seat),
            on_lapse=on_lapse,
        )
