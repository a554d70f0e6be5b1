"""Says in sentences why a balance is what it is, and why the last request was denied (R44, R49)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from creditgate.v1 import resources_pb2
from creditgate_server.core import results as r
from creditgate_server.core import schedule
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job
from creditgate_server.core.schedule import Schedule
from creditgate_server.rpc.remedies import Denied

_LAST_DAYS_MS = 253_402_128_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that an explanation is made from. `denied` is None when something was approved since."""

    catalog: Catalog
    account: r.Account
    balance: r.Balance
    holds: tuple[r.Hold, ...]
    denied: r.Denial | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Sentences, in order."""

    balance: tuple[str, ...]
    denial: tuple[str, ...]


def explain(case: Case) -> Explanation:
    """Why the balance, and why the denial."""
    said = _Said(case)
    return Explanation(balance=tuple(said.balance()), denial=tuple(said.denial()))


class _Said:
    """The sentences about one account."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._catalog = case.catalog
        self._zone = case.account.zone
        kept = case.account.schedule
        coming = (
            []
            if kept is None
            else schedule.next_resets(kept, case.catalog.plans, case.account.totals.as_of_ms)
        )
        self._resets = {item.row: item for item in coming}

    # The balance.

    def balance(self) -> Iterator[str]:
        """Total, plan, buckets, open holds, limits."""
        account, totals = self._case.account, self._case.balance.totals
        debt = f", and owes {self._credits(totals.debt)}" if totals.debt else ""
        yield (
            f"On {self._time(totals.as_of_ms)} account {account.account_id} has "
            f"{self._credits(totals.available)} available and {self._credits(totals.held)} set "
            f"aside by open holds{debt}."
        )
        if account.frozen:
            yield "The operator has frozen the account: new holds are denied, open ones finish."
        if account.schedule is not None and account.schedule.plan:
            yield from self._plan(account.schedule)
        for row in self._shown():
            yield self._bucket(row)
        yield from self._open_holds()

    def _plan(self, kept: Schedule) -> Iterator[str]:
        plan = self._catalog.plans.by_name.get(kept.plan)
        if plan is None:
            yield f"Its plan {kept.plan} is not in the catalog any more and grants nothing."
        else:
            seats = "" if kept.seats == 1 else f" with {kept.seats:,} seats"
            kind = "a subscription" if plan.subscription else "no subscription"
            yield f"Its plan is {plan.title} ({plan.name}){seats}, {kind}."
        if kept.plan != self._catalog.plans.default:
            yield f"Its periods are counted from {self._time(kept.anchor_ms)} (R34)."
        lapses_ms = kept.lapses_ms
        if lapses_ms is not None:
            why = "was cancelled" if kept.ends_ms == lapses_ms else "is paid until then"
            yield f"The subscription ends on {self._time(lapses_ms)}: it {why}."
        if kept.change is not None:
            change = kept.change
            yield (
                f"On {self._time(change.at_ms)} it changes to plan {change.plan}, "
                f"seats {change.seats:,}."
            )
        for name, units in sorted(kept.units.items()):
            later = "" if units.next == units.now else f", from the next period on {units.next:,}"
            yield f"It has {units.now:,} units of the add-on {name}{later}."
        if plan is not None and plan.open_holds_max:
            yield f"The plan lets {plan.open_holds_max:,} holds be open at once."

    def _shown(self) -> Iterator[r.Bucket]:
        """Buckets that live or hold something, and the last ended one of each name."""
        ended: dict[str, r.Bucket] = {}
        for row in self._case.balance.buckets:
            if not row.ended or row.held:
                yield row
            elif row.bucket_id not in ended or ended[row.bucket_id].period < row.period:
                ended[row.bucket_id] = row
        yield from ended.values()

    def _bucket(self, row: r.Bucket) -> str:
        period = f", period {row.period}" if row.recurring else ""
        went = [
            f"{self._credits(figure)} {word}"
            for figure, word in (
                (row.spent, "spent"),
                (row.held, "set aside by open holds"),
                (row.expired, "expired"),
                (row.voided, "taken back by the operator"),
            )
            if figure
        ]
        used = f"; {', '.join(went)}" if went else ""
        return (
            f"Bucket {row.bucket_id} ({row.kind.name}{period}): {self._credits(row.granted)} "
            f"granted on {self._time(row.granted_ms)}{used}; {self._credits(row.available)} "
            f"left{self._limits(row)}{self._end(row)}."
        )

    def _limits(self, row: r.Bucket) -> str:
        only = (*row.actions, *row.models)
        return f", for {', '.join(only)} only" if only else ""

    def _end(self, row: r.Bucket) -> str:
        if row.ended:
            ended = "" if row.ends_ms is None else f" on {self._time(row.ends_ms)}"
            return ", and it has ended" if row.voided else f", and it ended{ended}"
        frozen = ", frozen until the account has a subscription again" if row.frozen else ""
        reset = self._resets.get(schedule.row_name(row.bucket_id, row.period))
        if reset is not None and row.recurring:
            return (
                f"{frozen}, and on {self._time(reset.at_ms)} a new period begins with "
                f"{self._credits(reset.amount)}"
            )
        if row.ends_ms is None:
            return f"{frozen}, and it never ends"
        return f"{frozen}, and it ends on {self._time(row.ends_ms)}"

    def _open_holds(self) -> Iterator[str]:
        count = self._case.balance.open_holds
        if not count:
            yield "No hold is open."
            return
        yield f"{count:,} {'hold is' if count == 1 else 'holds are'} open."
        for hold in sorted(self._case.holds, key=lambda hold: (hold.authorized_ms, hold.hold_id)):
            member = f" of member {hold.member_id}" if hold.member_id else ""
            yield (
                f"Hold {hold.hold_id}{member} for {_what(hold.job)} has "
                f"{self._credits(hold.held)} set aside since {self._time(hold.authorized_ms)}, "
                f"until {self._time(hold.deadline_ms)} at the latest."
            )
        if count > len(self._case.holds):
            yield f"And {count - len(self._case.holds):,} more holds; ListHolds lists them all."

    # The denial.

    def denial(self) -> Iterator[str]:
        """What was denied, why, and what helps."""
        found = self._case.denied
        if found is None:
            return
        account = self._case.account
        job = Job(action=found.action, model=found.model)
        denied = Denied(
            catalog=self._catalog,
            decision=found.decision,
            job=job,
            missing=found.missing,
            plan=self._case.balance.plan,
            schedule=account.schedule,
            now_ms=account.totals.as_of_ms,
        )
        reason = resources_pb2.DenialReason.Name(denied.reason()).removeprefix("DENIAL_REASON_")
        yield f"The last request, {found.hold_id} for {_what(job)}, was denied: {reason}."
        yield self._why(found)
        for remedy in denied.remedies():
            yield self._remedy(remedy)

    def _why(self, found: r.Denial) -> str:
        price, missing = self._credits(found.amount), self._credits(found.missing)
        plan = self._case.balance.plan
        match found.decision:
            case r.Decision.UNPRICED_ACTION:
                return "The catalog has no price for it, and nothing is free by omission."
            case r.Decision.PRICE_CHANGED:
                return f"Its price is {price}, which is more than the request allowed."
            case r.Decision.ACCOUNT_FROZEN:
                return "The account was frozen by the operator."
            case r.Decision.PLAN_REQUIRED:
                return f"Its price is {price}, but the plan {plan} does not allow it."
            case r.Decision.MEMBER_LIMIT:
                return (
                    f"Its price is {price}, and member {found.member_id} was {missing} short of "
                    "it in their share of this period."
                )
            case r.Decision.CONCURRENCY_LIMIT:
                return f"As many holds were open as the plan {plan} lets be open at once."
            case _:
                return f"Its price is {price}, of which {missing} were missing."

    def _remedy(self, remedy: resources_pb2.Remedy) -> str:
        match remedy.WhichOneof("remedy"):
            case "wait":
                wait = remedy.wait
                at_ms = wait.until.seconds * 1000 + wait.until.nanos // 1_000_000
                return (
                    f"To wait helps: on {self._time(at_ms)} bucket {wait.bucket_id} begins a "
                    f"period with {self._credits(wait.amount)}."
                )
            case "top_up" if not remedy.top_up.allowed:
                return "A top-up cannot be bought: that needs a subscription (R21, R37)."
            case "top_up" if remedy.top_up.pack_amount:
                pack = self._credits(remedy.top_up.pack_amount)
                return f"A top-up helps: the smallest pack that suffices has {pack}."
            case "top_up":
                return "A top-up helps, though no single pack makes up what is missing."
            case _:
                return f"An upgrade helps: to {' or '.join(remedy.upgrade.plan_ids)}."

    # Figures and dates.

    def _credits(self, amount: int) -> str:
        figure = Decimal(amount).scaleb(-self._catalog.decimals)
        unit = self._catalog.unit
        return f"{figure:,f} {unit if figure == 1 else unit + 's'}"

    def _time(self, at_ms: int) -> str:
        """By the clocks of the account's zone."""
        # The last days that there are would lie after them in some zones.
        zone = self._zone if at_ms < _LAST_DAYS_MS else "UTC"
        at = datetime.fromtimestamp(at_ms // 1000, tz=ZoneInfo(zone))
        return f"{at:%Y-%m-%d %H:%M:%S} {zone}"


def _what(job: Job) -> str:
    return f"{job.action} with {job.model}" if job.model else job.action
