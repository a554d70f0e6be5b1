"""What an account can do about a denial (R44): wait, buy, or take another plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from creditgate.v1 import resources_pb2
from creditgate_server.core import schedule
from creditgate_server.core.catalog import ANY_PLAN, Catalog
from creditgate_server.core.commands import Job, Terms
from creditgate_server.core.results import Decision
from creditgate_server.core.schedule import Schedule, Upcoming
from creditgate_server.rpc import messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A denial with all that its remedies depend on. `job` is None for a purchase."""

    catalog: Catalog
    decision: Decision
    job: Job | None
    missing: int
    plan: str
    schedule: Schedule | None
    now_ms: int

    def write(self, into: Any) -> None:
        """Tell of it in an answer."""
        into.decision = resources_pb2.DECISION_DENIED
        into.denial_reason = self.reason()
        into.remedies.extend(self.remedies())

    def reason(self) -> resources_pb2.DenialReason.ValueType:
        """The reason; what the plan lacks is told apart by the catalog."""
        if self.decision is Decision.PLAN_REQUIRED and self.job is not None:
            name = self.catalog.denial_of(self.job, self.plan)
            return resources_pb2.DenialReason.Value(f"DENIAL_REASON_{name}")
        return messages.DENIALS[self.decision]

    def remedies(self) -> Iterator[resources_pb2.Remedy]:
        """What helps: to wait, the soonest first; to buy; other plans."""
        for reset in self._resets():
            wait = resources_pb2.Remedy.Wait(
                until=messages.instant(reset.at_ms),
                bucket_id=reset.row.partition("#")[0],
                amount=reset.amount,
            )
            yield resources_pb2.Remedy(wait=wait)
        if self.decision is Decision.INSUFFICIENT_CREDITS and self.catalog.packs:
            top_up = resources_pb2.Remedy.TopUp(
                allowed=self.catalog.plans.may_buy(self.plan),
                pack_amount=self.catalog.smallest_pack(self.missing),
            )
            yield resources_pb2.Remedy(top_up=top_up)
        plans = self._upgrades()
        if plans:
            upgrade = resources_pb2.Remedy.Upgrade(plan_ids=plans)
            yield resources_pb2.Remedy(upgrade=upgrade)

    def _resets(self) -> list[Upcoming]:
        """The resets that bring credits for the job, or begin a new share of the member."""
        if self.schedule is None or self.job is None:
            return []
        coming = schedule.next_resets(self.schedule, self.catalog.plans, self.now_ms)
        if self.decision is Decision.INSUFFICIENT_CREDITS:
            return [reset for reset in coming if reset.amount and _pays(reset, self.job)]
        if self.decision is Decision.MEMBER_LIMIT:
            # Shares are counted by the periods of the plan's first grant.
            known = self.catalog.plans.by_name.get(self.plan)
            first = known.grants[0].name if known is not None and known.grants else ""
            return [reset for reset in coming if reset.row.partition("#")[0] == first]
        return []

    def _upgrades(self) -> tuple[str, ...]:
        plans = self.catalog.plans
        if self.job is None:
            above = plans.plans[plans.rank(self.plan) + 1 :]
            return tuple(plan.name for plan in above if plans.may_buy(plan.name))
        if self.decision is Decision.INSUFFICIENT_CREDITS:
            return self.catalog.plans_that_allow(self.job, self.missing, above=self.plan)
        if self.decision not in {Decision.PLAN_REQUIRED, Decision.CONCURRENCY_LIMIT}:
            return ()
        names = self.catalog.plans_that_allow(self.job, above=self.plan)
        if self.decision is Decision.PLAN_REQUIRED:
            return names
        known = plans.by_name.get(self.plan)
        now = 0 if known is None else known.open_holds_max
        most = {name: plans.by_name[name].open_holds_max for name in names}
        return tuple(name for name in names if most[name] == 0 or most[name] > now)


def gate(terms: Terms, plan: str, open_holds: int) -> Decision | None:
    """Which denial awaits an account on this plan at the gate; None if it may pass."""
    if terms.gate == ANY_PLAN:
        return None
    for entry in terms.gate.split(","):
        name, _, most = entry.partition("/")
        if name and name == plan:
            full = 0 < int(most) <= open_holds
            return Decision.CONCURRENCY_LIMIT if full else None
    return Decision.PLAN_REQUIRED


def _pays(reset: Upcoming, job: Job) -> bool:
    return (not reset.actions or job.action in reset.actions) and (
        not reset.models or job.model in reset.models
    )
