"""Answers for people to read."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from creditgate.v1 import accounts_pb2, catalog_pb2, credits_pb2
from creditgate.v1 import resources_pb2 as pb
from creditgate_server.cli import words

Placed = credits_pb2.AuthorizeResponse | credits_pb2.ChargeResponse
Decided = Placed | credits_pb2.ExtendResponse | credits_pb2.QuoteResponse

_FIGURES: tuple[tuple[str, Callable[[pb.Bucket], int], bool], ...] = (
    ("granted", lambda bucket: bucket.granted, True),
    ("available", lambda bucket: bucket.available, True),
    ("held", lambda bucket: bucket.held, True),
    ("spent", lambda bucket: bucket.spent, True),
    ("expired", lambda bucket: bucket.expired, False),
    ("voided", lambda bucket: bucket.voided, False),
)
"""The columns of a balance; the last are shown where there is something to be seen in them."""


def table(*columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    """A table without lines; amounts stand in columns aligned to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for column in columns:
        if column in right:
            made.add_column(column, justify="right", no_wrap=True)
        else:
            # What names the row stays whole as long as there is room.
            made.add_column(column, overflow="fold", no_wrap=column == columns[0])
    return made


def yes(text: str) -> Text:
    """Something good."""
    return Text(text, style="bold green")


def no(text: str) -> Text:
    """Something that is not as it was wished."""
    return Text(text, style="bold red")


def dim(text: str) -> Text:
    """Something beside the point."""
    return Text(text, style="dim")


# What an account has.


def buckets(rows: Iterable[pb.Bucket]) -> Table:
    """Buckets with their figures, and the sum where there are several."""
    rows = list(rows)
    shown = [
        (label, figure)
        for label, figure, always in _FIGURES
        if always or any(figure(bucket) for bucket in rows)
    ]
    labels = [label for label, _ in shown]
    made = table("bucket", "kind", *labels, "ends (UTC)", right=labels)
    for bucket in rows:
        figures = [_amount(figure(bucket)) for _, figure in shown]
        made.add_row(
            words.bucket(bucket.bucket_id, bucket.period),
            words.kind(bucket.kind),
            *figures,
            words.end(bucket),
            style="dim" if bucket.ended or bucket.frozen else "",
        )
    if len(rows) > 1:
        made.add_section()
        sums = [words.amount(sum(map(figure, rows))) for _, figure in shown]
        made.add_row("all", "", *sums, "", style="bold")
    return made


def _amount(number: int) -> Text:
    return Text(words.amount(number), style="" if number else "dim")


def balance(found: credits_pb2.GetBalanceResponse) -> RenderableType:
    """A balance: a line that says the most important, then bucket by bucket."""
    totals = found.totals
    head = Text.assemble(
        (words.amount(totals.available), "bold green"),
        f" {found.unit}s available, ",
        (words.amount(totals.held), "bold"),
        f" held by {found.open_holds} open hold{'' if found.open_holds == 1 else 's'}",
    )
    if totals.debt:
        head.append(f", {words.amount(totals.debt)} of debt", "bold red")
    parts: list[RenderableType] = [head]
    if found.plan_id:
        parts.append(dim(f"plan {found.plan_id}; buckets turn by the days of {found.zone}"))
    if found.payable != totals.available:
        parts.append(Text(f"{words.amount(found.payable)} of them may pay what was asked about"))
    if found.decimals:
        parts.append(dim(f"amounts are units: 1 {found.unit} is {10**found.decimals:,} of them"))
    parts.append(buckets(found.buckets) if found.buckets else dim("no buckets yet"))
    return Group(*parts)


def account(shown: accounts_pb2.Account) -> RenderableType:
    """An account: its subscription, what it has, what will happen by itself."""
    totals = shown.totals
    rows: list[tuple[str, RenderableType]] = [
        ("account", shown.account_id + (", frozen: new holds are denied" if shown.frozen else "")),
        ("zone", shown.zone),
        ("created", f"{words.moment(shown.created_at)} UTC"),
    ]
    if shown.HasField("subscription"):
        rows += _subscription(shown.subscription)
    rows += [
        (f"add-on {add_on.add_on_id}", words.units(add_on.units, add_on.next_units))
        for add_on in shown.add_ons
    ]
    rows += [
        ("available", words.amount(totals.available)),
        ("held", words.amount(totals.held)),
        ("debt", words.amount(totals.debt)),
        ("changes", words.amount(totals.seq)),
    ]
    if not shown.upcoming:
        return pairs(rows)
    coming = table("at (UTC)", "what will happen by itself", "in", right=())
    now = totals.as_of.ToDatetime(tzinfo=UTC)
    for item in shown.upcoming:
        coming.add_row(words.moment(item.at), words.upcoming(item), dim(words.until(item.at, now)))
    return Group(pairs(rows), "", coming)


def _subscription(found: accounts_pb2.Subscription) -> Iterable[tuple[str, RenderableType]]:
    seats = f", {words.amount(found.seats)} seats" if found.seats > 1 else ""
    yield "plan", Text(f"{found.plan_id}{seats}", style="bold")
    if found.HasField("anchor"):
        yield "counted from", f"{words.moment(found.anchor)} UTC"
    if found.HasField("paid_through"):
        yield "paid through", f"{words.moment(found.paid_through)} UTC"
    if found.HasField("ends_at"):
        yield "ends", f"{words.moment(found.ends_at)} UTC"


def event(effect: accounts_pb2.Effect.ValueType, shown: accounts_pb2.Account) -> RenderableType:
    """What became of an event of the subscription, and the account after it."""
    match effect:
        case accounts_pb2.EFFECT_APPLIED:
            head = yes("applied")
        case accounts_pb2.EFFECT_REPLAYED:
            head = yes("applied before; nothing happened twice")
        case accounts_pb2.EFFECT_SUPERSEDED:
            head = no("superseded: something newer came first, so nothing changed")
        case _:
            head = Text(words.name(accounts_pb2.Effect, effect))
    return Group(head, account(shown))


def bought(answer: accounts_pb2.PurchaseTopUpResponse) -> RenderableType:
    """What a purchase has made, or why it may not be."""
    if answer.decision != pb.DECISION_APPROVED:
        reason = words.name(pb.DenialReason, answer.denial_reason)
        head = Text.assemble(("denied  ", "bold red"), (reason, "bold"))
        advice = filter(None, map(words.remedy, answer.remedies))
        helps = [Text.assemble(("helps:  ", "bold yellow"), each) for each in advice]
        return Group(head, Text("        give the money back: nothing was granted"), *helps)
    how = "granted before; nothing was added" if answer.replayed else "bought"
    head = yes(f"{words.amount(answer.bucket.granted)} {how}")
    return Group(head, buckets([answer.bucket]), total_line(answer.totals))


def limited(member: str, amount: int | None, used: int) -> RenderableType:
    """A limit on members."""
    who = member or "each member without a limit of its own"
    most = "no limit" if amount is None else f"at most {words.amount(amount)} in a period"
    head = yes(f"{who}: {most}")
    return Group(head, dim(f"{words.amount(used)} drawn in this one")) if member else head


def usage(answer: accounts_pb2.GetUsageResponse) -> RenderableType:
    """What was charged, by day, action and model."""
    if not answer.lines:
        return dim("nothing was charged")
    figures = ("jobs", "charged", "refunded")
    made = table("day", "action", "model", *figures, right=figures)
    before = ""
    for line in answer.lines:
        day = "" if line.day == before else line.day
        before = line.day
        amounts = [_amount(getattr(line, figure)) for figure in figures]
        made.add_row(day, line.action, line.model or dim("-"), *amounts)
    made.add_section()
    jobs = sum(line.jobs for line in answer.lines)
    sums = (jobs, answer.charged, answer.refunded)
    made.add_row("all", "", "", *map(words.amount, sums), style="bold")
    return made


def forecast(
    wanted: Sequence[accounts_pb2.ForecastRequest.Planned], answer: accounts_pb2.ForecastResponse
) -> RenderableType:
    """What a month of jobs costs, and which plans cover it."""
    figures = ("times", "price", "amount")
    made = table("job", *figures, right=figures)
    for each, price in zip(wanted, answer.prices, strict=True):
        amounts = (each.times, price, each.times * price)
        made.add_row(words.job(each.job), *map(words.amount, amounts))
    made.add_row("buffer", "", "", words.amount(answer.buffer))
    made.add_section()
    made.add_row("a month", "", "", words.amount(answer.amount + answer.buffer), style="bold")
    covered = ", ".join(answer.plan_ids) or "no plan of the catalog"
    return Group(made, Text.assemble("covered by: ", (covered, "bold")))


def explained(answer: accounts_pb2.ExplainResponse) -> RenderableType:
    """Sentences, in order."""
    lines: list[RenderableType] = [*map(Text, answer.balance)]
    if answer.denial:
        lines += ["", *(Text(said, style="yellow") for said in answer.denial)]
    return Group(*lines)


def time(now: Timestamp) -> RenderableType:
    """The time that accounts live by."""
    return Text(f"{words.moment(now)} UTC")


def pairs(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names and what they stand for."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column()
    for label, value in rows:
        made.add_row(label, value)
    return made


def granted(answer: accounts_pb2.GrantCreditsResponse) -> RenderableType:
    """What a grant has made."""
    how = "granted before; nothing was added" if answer.replayed else "granted"
    head = yes(f"{words.amount(answer.bucket.granted)} {how}")
    return Group(head, buckets([answer.bucket]), total_line(answer.totals))


def voided(answer: accounts_pb2.VoidBucketResponse) -> RenderableType:
    """What is left of a voided bucket."""
    head = yes(f"voided {answer.bucket.bucket_id}")
    return Group(head, buckets([answer.bucket]), total_line(answer.totals))


def total_line(totals: pb.Totals) -> Text:
    """What the account has after it all."""
    said = f"{totals.account_id}: {words.amount(totals.available)} available"
    said += f", {words.amount(totals.held)} held"
    if totals.debt:
        said += f", {words.amount(totals.debt)} of debt"
    return dim(said)


# What has happened.


def ledger(entries: Iterable[pb.LedgerEntry], *, with_time: bool = True) -> Table:
    """Entries of a ledger, the earliest first."""
    columns = ["seq", "at (UTC)", "entry", "hold", "what moved", "available", "held"]
    if not with_time:
        columns.remove("at (UTC)")
    made = table(*columns, right=("seq", "available", "held"))
    for entry in entries:
        at = [words.moment(entry.at)] if with_time else []
        made.add_row(
            words.amount(entry.seq),
            *at,
            words.name(pb.LedgerVerb, entry.verb),
            entry.hold_id or dim("-"),
            words.entry(entry),
            words.amount(entry.available_after),
            words.amount(entry.held_after),
        )
    return made


# Holds.


def hold(shown: pb.Hold, totals: pb.Totals | None = None) -> RenderableType:
    """One hold and where its credits come from."""
    state = words.name(pb.HoldState, shown.state)
    rows: list[tuple[str, RenderableType]] = [
        ("hold", Text.assemble((shown.hold_id, "bold"), f" of {shown.account_id}")),
        ("state", state + (", settled late" if shown.settled_late else "")),
        ("job", words.job(shown.job)),
        ("price", f"{words.price(shown.price)} ({shown.catalog_version})"),
        ("authorized", f"{words.amount(shown.amount)} at {words.moment(shown.authorized_at)} UTC"),
    ]
    if shown.member_id:
        rows.append(("member", shown.member_id))
    if shown.state == pb.HOLD_STATE_OPEN:
        now = datetime.now(UTC) if totals is None else totals.as_of.ToDatetime(tzinfo=UTC)
        left = words.until(shown.deadline, now)
        rows.append(("returns", f"{words.moment(shown.deadline)} UTC, {left}"))
    else:
        rows.append(("ended", f"{words.moment(shown.ended_at)} UTC"))
    rows.append(("charged", _charged(shown)))
    parts: list[RenderableType] = [pairs(rows)]
    if shown.slices:
        parts.append(_slices(shown.slices))
    return Group(*parts)


def _charged(shown: pb.Hold) -> str:
    said = words.amount(shown.charged)
    if shown.overdrawn:
        said += f", of which {words.amount(shown.overdrawn)} overdrawn"
    if shown.refunded:
        said += f", {words.amount(shown.refunded)} refunded"
    return said


def _slices(slices: Iterable[pb.Slice]) -> Table:
    figures = ("amount", "held", "charged", "returned", "refunded")
    made = table("drawn from", "kind", *figures, right=figures)
    for part in slices:
        amounts = [_amount(getattr(part, figure)) for figure in figures]
        made.add_row(part.bucket_id, words.kind(part.kind), *amounts)
    return made


def hold_list(shown: Iterable[pb.Hold]) -> RenderableType:
    """Open holds, those that return first at the top."""
    rows = sorted(shown, key=lambda hold: hold.deadline.ToNanoseconds())
    if not rows:
        return dim("no open holds")
    made = table("hold", "job", "held", "charged", "returns (UTC)", "", right=("held", "charged"))
    now = datetime.now(UTC)
    for each in rows:
        made.add_row(
            each.hold_id,
            words.job(each.job),
            words.amount(each.held),
            words.amount(each.charged),
            words.moment(each.deadline),
            dim(words.until(each.deadline, now)),
        )
    return made


# Answers to a request for credits.


def decision(answer: Decided, approved: str) -> RenderableType:
    """Approved, with what that means; or denied, why, and what would help."""
    if answer.decision == pb.DECISION_APPROVED:
        return Text.assemble(("approved  ", "bold green"), approved)
    reason = words.name(pb.DenialReason, answer.denial_reason)
    lines = [Text.assemble(("denied  ", "bold red"), (reason, "bold"))]
    details = []
    if not isinstance(answer, credits_pb2.ExtendResponse) and answer.amount:
        details.append(f"the price is {words.amount(answer.amount)}")
    details.append(f"{words.amount(answer.totals.available)} are available")
    missing = _missing(answer)
    if missing:
        details.append(f"{words.amount(missing)} are missing")
    lines.append(Text(f"        {', '.join(details)}"))
    advice = filter(None, map(words.remedy, answer.remedies))
    lines += [Text.assemble(("helps:  ", "bold yellow"), each) for each in advice]
    return Group(*lines)


def _missing(answer: Decided) -> int:
    if isinstance(answer, credits_pb2.QuoteResponse):
        return max(0, answer.amount - answer.payable)
    return answer.missing


def placed(answer: Placed, done: str) -> RenderableType:
    """The answer to Authorize or Charge."""
    again = " (this id was approved before; nothing more was taken)" if answer.replayed else ""
    head = decision(answer, f"{words.amount(answer.amount)} {done}{again}")
    if answer.decision != pb.DECISION_APPROVED:
        return head
    return Group(head, hold(answer.hold, answer.totals), total_line(answer.totals))


def extended(answer: credits_pb2.ExtendResponse) -> RenderableType:
    """The answer to Extend."""
    now = answer.totals.as_of.ToDatetime(tzinfo=UTC)
    left = words.until(answer.hold.deadline, now)
    head = decision(answer, f"{words.amount(answer.hold.held)} held; they return {left}")
    return Group(head, hold(answer.hold, answer.totals), total_line(answer.totals))


def settled(answer: credits_pb2.SettleResponse) -> RenderableType:
    """The answer to Settle."""
    head = yes(f"{words.amount(answer.charged)} charged")
    head.append(f", {words.amount(answer.returned)} returned", "not bold default")
    if answer.shortfall:
        head.append(f", {words.amount(answer.shortfall)} could not be charged", "bold red")
    if answer.hold.held:
        head.append(f", {words.amount(answer.hold.held)} still held", "not bold default")
    if answer.late:
        head.append(" (after its deadline)", "not bold default")
    return Group(
        _replayed(head, replayed=answer.replayed), hold(answer.hold), total_line(answer.totals)
    )


def refunded(answer: credits_pb2.RefundResponse) -> RenderableType:
    """The answer to Refund."""
    head = yes(f"{words.amount(answer.refunded)} given back")
    return Group(
        _replayed(head, replayed=answer.replayed), hold(answer.hold), total_line(answer.totals)
    )


def _replayed(head: Text, *, replayed: bool) -> Text:
    if replayed:
        head.append(" (answered before; nothing happened twice)", "not bold default")
    return head


def quote(answer: credits_pb2.QuoteResponse) -> RenderableType:
    """The answer to Quote."""
    has_price = answer.HasField("price")
    head = decision(answer, f"it costs {words.amount(answer.amount)}")
    rows: list[tuple[str, RenderableType]] = []
    if has_price:
        rows.append(("price", f"{words.price(answer.price)} ({answer.catalog_version})"))
    rows.append(("may pay", words.amount(answer.payable)))
    return Group(head, pairs(rows))


# The catalog.


def catalog(found: catalog_pb2.GetCatalogResponse) -> RenderableType:
    """The catalog in force."""
    rows = pairs(
        catalog_rows(
            name=found.name,
            version=found.version,
            unit=found.unit,
            decimals=found.decimals,
            kinds=[words.kind(kind) for kind in found.kinds],
            packs=found.packs,
        )
    )
    if not found.plans:
        return rows
    made = table("plan", "title", "grants", "open holds", right=("open holds",))
    for plan in found.plans:
        grants = "\n".join(map(words.grant, plan.grants)) or dim("nothing")
        most = words.amount(plan.open_holds_max) if plan.open_holds_max else dim("any number")
        made.add_row(plan.plan_id, plan.title, grants, most)
    return Group(rows, "", made)


def catalog_rows(  # noqa: PLR0913 - what a catalog says of itself
    *,
    name: str,
    version: str,
    unit: str,
    decimals: int,
    kinds: Iterable[str],
    packs: Iterable[int],
) -> list[tuple[str, RenderableType]]:
    """What a catalog says besides its prices."""
    return [
        ("catalog", Text(name, style="bold")),
        ("version", version),
        ("unit", f"{unit}, {decimals} decimals" if decimals else unit),
        ("drawn in this order", ", ".join(kinds)),
        ("packs", ", ".join(map(words.amount, packs)) or "none"),
    ]


def prices(found: Iterable[catalog_pb2.PricedAction]) -> RenderableType:
    """A price list."""
    made = table("action", "title", "model", "price", "settings", "hold stands")
    before = ""
    for priced in found:
        same = priced.action == before
        before = priced.action
        made.add_row(
            "" if same else priced.action,
            "" if same else priced.title,
            priced.model or dim("any"),
            words.price(priced.price),
            "\n".join(map(_setting, priced.settings)),
            words.length(priced.ttl.ToTimedelta()),
        )
    return made if made.row_count else dim("no such action")


def _setting(priced: catalog_pb2.PricedSetting) -> str:
    factors = ", ".join(
        f"{value} at {factor}" + (" (default)" if value == priced.default_value else "")
        for value, factor in sorted(priced.factors.items(), key=lambda each: float(each[1]))
    )
    return f"{priced.name}: {factors}"
