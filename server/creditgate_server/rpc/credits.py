"""The service `Credits`: a request becomes a command, the ledger's result becomes the response.

It awaits nothing but the ledger, and knows neither asyncio nor the gRPC server it runs under.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.message import Message

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.resources_pb2 import DECISION_APPROVED
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.faults import Fault, invalid
from creditgate_server.core.ledger import Ledger
from creditgate_server.rpc import checks, faults, messages
from creditgate_server.rpc.in_force import Catalogs
from creditgate_server.rpc.remedies import Denied, gate

EXECUTE_MAX = 1_000
_ANY_CURSOR = r"\d{1,20}"
_NO_MODEL = "*"
"""A model that no bucket names: what a job without a model may be paid from."""

_CANCELLED = {
    pb.REFUND_REASON_UNSPECIFIED: False,
    pb.REFUND_REASON_FAILED: False,
    pb.REFUND_REASON_CANCELLED: True,
}


class Step(NamedTuple):
    """A checked request: what to ask the ledger, and how to write what it says into the answer."""

    command: c.Command[Any]
    write: Callable[[Any, Any], None]


class Credits:
    """For workers and front ends."""

    def __init__(self, ledger: Ledger, catalogs: Catalogs) -> None:
        self._ledger = ledger
        self._catalogs = catalogs
        self._steps: dict[str, Callable[[Any], Step]] = {
            "authorize": self._authorize,
            "extend": self._extend,
            "settle": self._settle,
            "refund": self._refund,
            "charge": self._charge,
            "quote": self._quote,
            "get_hold": self._get_hold,
            "get_balance": self._get_balance,
        }

    def quote(self, request: pb.QuoteRequest) -> Awaitable[Message]:
        """Tell the exact price of a job and the account's means (R61, R68)."""
        return self._run(self._quote(request), pb.QuoteResponse())

    def authorize(self, request: pb.AuthorizeRequest) -> Awaitable[Message]:
        """Set the price of a job aside (R57)."""
        return self._run(self._authorize(request), pb.AuthorizeResponse())

    def extend(self, request: pb.ExtendRequest) -> Awaitable[Message]:
        """Move the deadline of an open hold, and raise it if asked."""
        return self._run(self._extend(request), pb.ExtendResponse())

    def settle(self, request: pb.SettleRequest) -> Awaitable[Message]:
        """Take what was delivered (R58)."""
        return self._run(self._settle(request), pb.SettleResponse())

    def refund(self, request: pb.RefundRequest) -> Awaitable[Message]:
        """Give back (R59)."""
        return self._run(self._refund(request), pb.RefundResponse())

    def charge(self, request: pb.ChargeRequest) -> Awaitable[Message]:
        """Authorize and settle in one (R27)."""
        return self._run(self._charge(request), pb.ChargeResponse())

    def get_hold(self, request: pb.GetHoldRequest) -> Awaitable[Message]:
        """Show one hold."""
        return self._run(self._get_hold(request), pb.GetHoldResponse())

    def get_balance(self, request: pb.GetBalanceRequest) -> Awaitable[Message]:
        """Show what an account has (R40)."""
        return self._run(self._get_balance(request), pb.GetBalanceResponse())

    async def list_holds(self, request: pb.ListHoldsRequest) -> Message:
        """List open holds."""
        command = c.ListHolds(
            account_id=checks.identifier(request.account_id, "account_id"),
            limit=checks.page_size(request.page_size),
            cursor=checks.page_token(request.page_token, _ANY_CURSOR),
        )
        page = await self._ledger.run(command)
        response = pb.ListHoldsResponse(next_page_token=page.cursor)
        for hold in page.holds:
            messages.write_hold(response.holds.add(), hold)
        return response

    async def execute(self, request: pb.ExecuteRequest) -> Message:
        """Run many operations; each fails for itself."""
        if not 1 <= len(request.operations) <= EXECUTE_MAX:
            count = len(request.operations)
            raise invalid("operations", f"has {count} items, must be 1 to {EXECUTE_MAX:,}")
        response = pb.ExecuteResponse()
        results = [response.results.add() for _ in request.operations]
        await self.run_all(request.operations, results)
        return response

    async def run_all(
        self, operations: Iterable[pb.Operation], results: Iterable[pb.Result]
    ) -> None:
        """Run operations, those of one account in the order given; write the result of each."""
        prepared = [self._prepare(operation) for operation in operations]
        commands = [step.command for _, step in prepared if isinstance(step, Step)]
        found = iter(await self._ledger.run_all(commands))
        for (name, step), result in zip(prepared, results, strict=True):
            answer = step if isinstance(step, Fault) else next(found)
            if isinstance(answer, Fault):
                result.fault.CopyFrom(faults.message(answer))
            else:
                assert isinstance(step, Step)
                step.write(answer, getattr(result, name))

    def _prepare(self, operation: pb.Operation) -> tuple[str, Step | Fault]:
        name = operation.WhichOneof("operation")
        if name is None:
            return "", invalid("operation", "is missing, or of a kind this server does not know")
        try:
            return name, self._steps[name](getattr(operation, name))
        except Fault as fault:
            return name, fault

    async def _run(self, step: Step, response: Message) -> Message:
        step.write(await self._ledger.run(step.command), response)
        return response

    # A step for each operation --------------------------------------------------------------------

    def _authorize(self, request: pb.AuthorizeRequest) -> Step:
        catalog = self._catalogs.current
        job = checks.job(request.job, "job")
        terms = catalog.terms(job)
        max_amount = checks.optional_amount(request, "max_amount")
        if request.quoted_version or request.HasField("quoted_amount"):
            version, amount = _quote_of(request)
            terms = _quoted_terms(terms, self._catalogs.quoted(version), job)
            # Whether the quote binds or not, so that a retry after its time is the same request.
            max_amount = amount if max_amount is None else min(amount, max_amount)
        command = c.Authorize(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            job=job,
            ttl_ms=checks.optional_duration_ms(request, "ttl"),
            max_amount=max_amount,
            member_id=checks.optional_identifier(request.member_id, "member_id"),
            terms=terms,
            rules=catalog.rules,
        )
        return Step(command, partial(_write_placed, catalog, command))

    def _charge(self, request: pb.ChargeRequest) -> Step:
        catalog = self._catalogs.current
        job = checks.job(request.job, "job")
        command = c.Charge(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            job=job,
            max_amount=checks.optional_amount(request, "max_amount"),
            member_id=checks.optional_identifier(request.member_id, "member_id"),
            terms=catalog.terms(job),
            rules=catalog.rules,
        )
        return Step(command, partial(_write_placed, catalog, command))

    def _extend(self, request: pb.ExtendRequest) -> Step:
        catalog = self._catalogs.current
        command = c.Extend(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            ttl_ms=checks.optional_duration_ms(request, "ttl"),
            amount=checks.optional_amount(request, "amount"),
            quantity=checks.optional_quantity(request, "quantity", "quantity", 1),
            rules=catalog.rules,
        )

        def write(found: r.Extended, into: pb.ExtendResponse) -> None:
            _write_decision(into, catalog, found.hold.job, found)
            messages.write_hold(into.hold, found.hold)
            messages.write_totals(into.totals, command.account_id, found.totals)
            into.missing = found.missing

        return Step(command, write)

    def _settle(self, request: pb.SettleRequest) -> Step:
        if request.partial and not request.operation_id:
            raise invalid("operation_id", "is missing: a partial settle needs one")
        command = c.Settle(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            operation_id=checks.optional_identifier(request.operation_id, "operation_id"),
            amount=checks.optional_amount(request, "amount"),
            quantity=checks.optional_quantity(request, "quantity", "quantity", 0),
            partial=request.partial,
            rules=self._catalogs.current.rules,
        )

        def write(found: r.Settled, into: pb.SettleResponse) -> None:
            into.charged = found.charged
            into.shortfall = found.shortfall
            into.returned = found.returned
            into.late = found.late
            messages.write_hold(into.hold, found.hold)
            into.replayed = found.replayed
            messages.write_totals(into.totals, command.account_id, found.totals)

        return Step(command, write)

    def _refund(self, request: pb.RefundRequest) -> Step:
        if request.HasField("amount") and not request.operation_id:
            raise invalid("operation_id", "is missing: a refund of an amount needs one")
        command = c.Refund(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            operation_id=checks.optional_identifier(request.operation_id, "operation_id"),
            amount=checks.optional_amount(request, "amount", 1),
            cancelled=checks.known(request.reason, _CANCELLED, "reason"),
            rules=self._catalogs.current.rules,
        )

        def write(found: r.Refunded, into: pb.RefundResponse) -> None:
            into.refunded = found.refunded
            messages.write_hold(into.hold, found.hold)
            into.replayed = found.replayed
            messages.write_totals(into.totals, command.account_id, found.totals)

        return Step(command, write)

    def _get_hold(self, request: pb.GetHoldRequest) -> Step:
        command = c.GetHold(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
        )
        return Step(command, lambda found, into: messages.write_hold(into.hold, found))

    def _get_balance(self, request: pb.GetBalanceRequest) -> Step:
        catalog = self._catalogs.current
        command = c.GetBalance(
            account_id=checks.identifier(request.account_id, "account_id"),
            action=checks.optional_identifier(request.action, "action"),
            model=checks.optional_identifier(request.model, "model"),
            rules=catalog.rules,
        )

        def write(found: r.Balance, into: pb.GetBalanceResponse) -> None:
            messages.write_totals(into.totals, command.account_id, found.totals)
            resets = messages.resets(found, catalog.plans)
            for row in found.buckets:
                messages.write_bucket(into.buckets.add(), row, resets)
            into.payable = found.payable
            into.open_holds = found.open_holds
            into.unit = catalog.unit
            into.decimals = catalog.decimals
            ends = [row.ends_ms for row in found.buckets if row.ends_ms and not row.ended]
            if ends:
                messages.write_instant(into.next_end_at, min(ends))
            into.zone = found.zone
            into.plan_id = found.plan

        return Step(command, write)

    def _quote(self, request: pb.QuoteRequest) -> Step:
        catalog = self._catalogs.current
        job = checks.job(request.job, "job")
        terms = catalog.terms(job)
        command = c.GetBalance(
            account_id=checks.identifier(request.account_id, "account_id"),
            action=job.action,
            model=job.model or _NO_MODEL,
            rules=catalog.rules,
        )

        def write(found: r.Balance, into: pb.QuoteResponse) -> None:
            decision, missing = _judged(terms, found)
            if decision is r.Decision.APPROVED:
                into.decision = DECISION_APPROVED
            else:
                denied = Denied(
                    catalog=catalog,
                    decision=decision,
                    job=job,
                    missing=missing,
                    plan=found.plan,
                    schedule=found.schedule,
                    now_ms=found.totals.as_of_ms,
                )
                denied.write(into)
            if terms is not None:
                into.amount = terms.amount
                messages.write_price(into.price, terms.price)
                binds_until_ms = found.totals.as_of_ms + catalog.quote_ms
                messages.write_instant(into.binds_until, binds_until_ms)
            into.payable = found.payable
            messages.write_totals(into.totals, command.account_id, found.totals)
            into.catalog_version = catalog.version

        return Step(command, write)


def _judged(terms: c.Terms | None, found: r.Balance) -> tuple[r.Decision, int]:
    """What Authorize would decide, on the same ladder; and how much is missing."""
    if terms is None:
        return r.Decision.UNPRICED_ACTION, 0
    if found.frozen:
        return r.Decision.ACCOUNT_FROZEN, 0
    denial = gate(terms, found.plan, found.open_holds)
    if denial is not None:
        return denial, 0
    if terms.amount > found.payable:
        return r.Decision.INSUFFICIENT_CREDITS, terms.amount - found.payable
    return r.Decision.APPROVED, 0


def _quote_of(request: pb.AuthorizeRequest) -> tuple[str, int]:
    """The version and the amount of the quote that a request names."""
    version = checks.optional_identifier(request.quoted_version, "quoted_version")
    amount = checks.optional_amount(request, "quoted_amount")
    if amount is None:
        raise invalid("quoted_amount", "is missing: a quoted_version needs one")
    if not version:
        raise invalid("quoted_version", "is missing: a quoted_amount needs one")
    return version, amount


def _quoted_terms(terms: c.Terms | None, quoted: Catalog | None, job: c.Job) -> c.Terms | None:
    """The price of the quote while it binds; all else is the catalog's in force."""
    bound = None if quoted is None else quoted.terms(job)
    if bound is None or terms is None:
        return bound or terms
    return replace(
        terms, price=bound.price, amount=bound.amount, catalog_version=bound.catalog_version
    )


def _write_decision(
    into: pb.AuthorizeResponse | pb.ChargeResponse | pb.ExtendResponse,
    catalog: Catalog,
    job: c.Job,
    found: r.Authorized | r.Extended,
) -> None:
    """Tell an approval from a denial, and what helps against it (R44)."""
    if found.decision is r.Decision.APPROVED:
        into.decision = DECISION_APPROVED
        return
    denied = Denied(
        catalog=catalog,
        decision=found.decision,
        job=job,
        missing=found.missing,
        plan=found.plan,
        schedule=found.schedule,
        now_ms=found.totals.as_of_ms,
    )
    denied.write(into)


def _write_placed(
    catalog: Catalog,
    command: c.Authorize | c.Charge,
    found: r.Authorized,
    into: pb.AuthorizeResponse | pb.ChargeResponse,
) -> None:
    _write_decision(into, catalog, command.job, found)
    into.amount = found.amount
    if found.hold is not None:
        messages.write_hold(into.hold, found.hold)
    into.replayed = found.replayed
    messages.write_totals(into.totals, command.account_id, found.totals)
    into.missing = found.missing
