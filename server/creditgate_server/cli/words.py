"""The contract's numbers in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from creditgate.v1 import resources_pb2 as pb
from creditgate.v1.accounts_pb2 import Upcoming
from creditgate.v1.catalog_pb2 import RecurringGrant

_GRANTED, _AVAILABLE, _HELD, _SPENT, _EXPIRED, _VOIDED = (
    pb.FIGURE_GRANTED,
    pb.FIGURE_AVAILABLE,
    pb.FIGURE_HELD,
    pb.FIGURE_SPENT,
    pb.FIGURE_EXPIRED,
    pb.FIGURE_VOIDED,
)
_MOVES = {
    (_GRANTED, _AVAILABLE): "put into",
    (_AVAILABLE, _HELD): "set aside from",
    (_HELD, _SPENT): "taken from",
    (_AVAILABLE, _SPENT): "taken at once from",
    (_HELD, _AVAILABLE): "returned to",
    (_SPENT, _AVAILABLE): "given back to",
    (_AVAILABLE, _EXPIRED): "expired in",
    (_HELD, _EXPIRED): "expired on their return to",
    (_SPENT, _EXPIRED): "expired on their return to",
    (_AVAILABLE, _VOIDED): "voided in",
    (_HELD, _VOIDED): "voided on their return to",
    (_SPENT, _VOIDED): "voided on their return to",
}


def name(enum: Any, number: int) -> str:
    """The name of an enum's number without its prefix, in words: "insufficient credits"."""
    try:
        full: str = enum.Name(number)
    except ValueError:
        return f"unknown ({number})"
    prefix: str = enum.Name(0).removesuffix("UNSPECIFIED")
    return full.removeprefix(prefix).lower().replace("_", " ")


def kind(number: int) -> str:
    """A kind of credits."""
    return name(pb.Kind, number).replace(" ", "-")


def figure(number: int) -> str:
    """A figure of a bucket."""
    return name(pb.Figure, number)


def amount(number: int) -> str:
    """An amount, with its thousands apart."""
    return f"{number:,}"


def moment(when: Timestamp) -> str:
    """An instant in UTC, to the second."""
    return f"{when.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S}"


def end(bucket: pb.Bucket) -> str:
    """When a bucket ends."""
    if not bucket.HasField("ends_at"):
        return "ended" if bucket.ended else "frozen" if bucket.frozen else "never"
    # Most end at midnight.
    when = moment(bucket.ends_at).removesuffix(":00")
    if bucket.ended:
        return f"{when} (ended)"
    if bucket.frozen:
        return f"{when} (frozen)"
    return f"{when}, then anew" if bucket.HasField("next_reset_at") else when


def grant(granted: RecurringGrant) -> str:
    """What a plan grants again and again."""
    seat = ", for each seat" if granted.per_seat else ""
    return (
        f"{granted.name}: {amount(granted.amount)} a {granted.every} ({kind(granted.kind)}){seat}"
    )


def units(now: int, later: int) -> str:
    """Units of an add-on."""
    return amount(now) if now == later else f"{amount(now)}, {amount(later)} from the next period"


def upcoming(item: Upcoming) -> str:
    """What will happen by itself."""
    match item.event:
        case Upcoming.EVENT_RESET:
            return f"{item.bucket_id} begins anew with {amount(item.amount)}"
        case Upcoming.EVENT_BUCKET_END:
            return f"{item.bucket_id} ends with what is left of it, {amount(item.amount)} now"
        case Upcoming.EVENT_PLAN_CHANGE:
            return f"the plan or its seats change: {item.plan_id}"
        case Upcoming.EVENT_SUBSCRIPTION_END:
            return f"the subscription ends: {item.plan_id}"
        case _:
            return name(Upcoming.Event, item.event)


def length(time: timedelta) -> str:
    """How long something takes, roughly."""
    whole_s = round(time.total_seconds())
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole_s >= 2 * size_s:
            return f"{whole_s // size_s} {unit}"
    return f"{whole_s} s"


def until(later: Timestamp, now: datetime) -> str:
    """How long it is until an instant, roughly."""
    left = later.ToDatetime(tzinfo=UTC) - now
    return "now" if left <= timedelta() else f"in {length(left)}"


def move(moved: pb.Move) -> str:
    """What a move did."""
    step = getattr(moved, "from"), moved.to
    verb = _MOVES.get(step) or f"went from {figure(step[0])} to {figure(step[1])} in"
    return f"{amount(moved.amount)} {verb} {bucket(moved.bucket_id, moved.period)}"


def bucket(bucket_id: str, period: int) -> str:
    """A bucket, with its period where it is not the first."""
    return f"{bucket_id} (period {period})" if period else bucket_id


def entry(made: pb.LedgerEntry) -> str:
    """What an entry of the ledger says, a line for each move."""
    lines = [move(moved) for moved in made.moves]
    if made.debt_change > 0:
        lines.append(f"{amount(made.debt_change)} went into debt")
    if made.debt_change < 0:
        lines.append(f"{amount(-made.debt_change)} of the debt paid")
    if not lines:
        if made.verb == pb.LEDGER_VERB_FREEZE_BUCKET:
            return f"{made.bucket_id} cannot be spent for now"
        if made.verb == pb.LEDGER_VERB_THAW_BUCKET:
            return f"{made.bucket_id} can be spent again"
        if made.verb == pb.LEDGER_VERB_BEGIN_PERIOD:
            return f"{made.bucket_id} begins with nothing"
        if made.bucket_id:
            return f"nothing was left in {made.bucket_id}"
        return "more time" if made.verb == pb.LEDGER_VERB_EXTEND else "nothing moved"
    return "\n".join(lines)


def job(asked: pb.Job) -> str:
    """What is run, in a line."""
    settings = "".join(f", {key} {value}" for key, value in sorted(asked.settings.items()))
    quantity = asked.quantity if asked.HasField("quantity") else 1
    model = f" with {asked.model}" if asked.model else ""
    return f"{asked.action}{model}{settings}, quantity {amount(quantity)}"


def price(asked: pb.Price) -> str:
    """A price, such as "4 per second", "at least 10" included."""
    rate = amount(asked.rate_numerator)
    if asked.rate_denominator != 1:
        rate += f"/{amount(asked.rate_denominator)}"
    parts = [f"{rate} per {asked.unit}"] if asked.rate_numerator else []
    if asked.flat:
        parts.insert(0, f"{amount(asked.flat)}")
    said = " + ".join(parts) or "free"
    return f"{said}, at least {amount(asked.minimum)}" if asked.minimum else said


def remedy(offered: pb.Remedy) -> str:
    """What would help, as advice; empty for a remedy that does not apply or is not known."""
    match offered.WhichOneof("remedy"):
        case "wait":
            wait = offered.wait
            return (
                f"wait until {moment(wait.until)} UTC for {amount(wait.amount)} in {wait.bucket_id}"
            )
        case "top_up" if offered.top_up.allowed:
            pack = offered.top_up.pack_amount
            return (
                f"buy a pack of {amount(pack)}"
                if pack
                else "buy several packs: no single one suffices"
            )
        case "upgrade":
            return f"change to the plan {' or '.join(offered.upgrade.plan_ids)}"
        case _:
            return ""
