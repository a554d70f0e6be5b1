"""The service `Credits`: a request becomes a command, the ledger's result becomes the response.

It awaits nothing but the ledger, and knows neither asyncio nor the gRPC server it runs under.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from google.protobuf.message import Message

from creditgate.v1 import credits_pb2 as pb
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.faults import Fault, invalid
from creditgate_server.core.ledger import Ledger
from creditgate_server.rpc import checks, faults, messages
from creditgate_server.rpc.in_force import Catalogs
from creditgate_server.rpc.remedies import APPROVED, Denied, gate

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
    """A checked request: what to ask the ledger, and how to answer with what it says."""

    command: c.Command[Any]
    answer: Callable[[Any], Message]


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

    async def quote(self, request: pb.QuoteRequest) -> Message:
        """Tell the exact price of a job and the account's means (R61, R68)."""
        return await self._run(self._quote(request))

    async def authorize(self, request: pb.AuthorizeRequest) -> Message:
        """Set the price of a job aside (R57)."""
        return await self._run(self._authorize(request))

    async def extend(self, request: pb.ExtendRequest) -> Message:
        """Move the deadline of an open hold, and raise it if asked."""
        return await self._run(self._extend(request))

    async def settle(self, request: pb.SettleRequest) -> Message:
        """Take what was delivered (R58)."""
        return await self._run(self._settle(request))

    async def refund(self, request: pb.RefundRequest) -> Message:
        """Give back (R59)."""
        return await self._run(self._refund(request))

    async def charge(self, request: pb.ChargeRequest) -> Message:
        """Authorize and settle in one (R27)."""
        return await self._run(self._charge(request))

    async def get_hold(self, request: pb.GetHoldRequest) -> Message:
        """Show one hold."""
        return await self._run(self._get_hold(request))

    async def get_balance(self, request: pb.GetBalanceRequest) -> Message:
        """Show what an account has (R40)."""
        return await self._run(self._get_balance(request))

    async def list_holds(self, request: pb.ListHoldsRequest) -> Message:
        """List open holds."""
        command = c.ListHolds(
            account_id=checks.identifier(request.account_id, "account_id"),
            limit=checks.page_size(request.page_size),
            cursor=checks.page_token(request.page_token, _ANY_CURSOR),
        )
        page = await self._ledger.run(command)
        return pb.ListHoldsResponse(
            holds=map(messages.hold, page.holds), next_page_token=page.cursor
        )

    async def execute(self, request: pb.ExecuteRequest) -> Message:
        """Run many operations; each fails for itself."""
        if not 1 <= len(request.operations) <= EXECUTE_MAX:
            count = len(request.operations)
            raise invalid("operations", f"has {count} items, must be 1 to {EXECUTE_MAX:,}")
        return pb.ExecuteResponse(results=await self.results(request.operations))

    async def results(self, operations: Iterable[pb.Operation]) -> list[pb.Result]:
        """Run operations, those of one account in the order given; a result for each."""
        prepared = [self._prepare(operation) for operation in operations]
        steps = [step for _, step in prepared if isinstance(step, Step)]
        found = iter(await self._ledger.run_all([step.command for step in steps]))
        results = []
        for name, step in prepared:
            answer = step if isinstance(step, Fault) else next(found)
            if isinstance(answer, Fault):
                results.append(pb.Result(fault=faults.message(answer)))
            else:
                assert isinstance(step, Step)
                results.append(pb.Result(**{name: step.answer(answer)}))  # type: ignore[arg-type]
        return results

    def _prepare(self, operation: pb.Operation) -> tuple[str, Step | Fault]:
        name = operation.WhichOneof("operation")
        if name is None:
            return "", invalid("operation", "is missing, or of a kind this server does not know")
        try:
            return name, self._steps[name](getattr(operation, name))
        except Fault as fault:
            return name, fault

    async def _run(self, step: Step) -> Message:
        return step.answer(await self._ledger.run(step.command))

    # A step for each operation --------------------------------------------------------------------

    def _authorize(self, request: pb.AuthorizeRequest) -> Step:
        catalog = self._catalogs.current
        job = checks.job(request.job, "job")
        quoted = checks.optional_identifier(request.quoted_version, "quoted_version")
        quoted_amount = checks.optional_amount(request, "quoted_amount")
        if quoted and quoted_amount is None:
            raise invalid("quoted_amount", "is missing: a quoted_version needs one")
        if quoted_amount is not None and not quoted:
            raise invalid("quoted_version", "is missing: a quoted_amount needs one")
        # Whether the quote binds or not, so that a retry after its time is the same request.
        bounds = (checks.optional_amount(request, "max_amount"), quoted_amount)
        command = c.Authorize(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
            job=job,
            ttl_ms=checks.optional_duration_ms(request, "ttl"),
            max_amount=min((bound for bound in bounds if bound is not None), default=None),
            member_id=checks.optional_identifier(request.member_id, "member_id"),
            terms=_quoted_terms(catalog, self._catalogs.quoted(quoted), job),
            rules=catalog.rules,
        )
        return Step(command, lambda found: _placed(pb.AuthorizeResponse, command, catalog, found))

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
        return Step(command, lambda found: _placed(pb.ChargeResponse, command, catalog, found))

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

        def answer(found: r.Extended) -> pb.ExtendResponse:
            return pb.ExtendResponse(
                **_decision(catalog, found, found.hold.job),
                hold=messages.hold(found.hold),
                totals=messages.totals(command.account_id, found.totals),
                missing=found.missing,
            )

        return Step(command, answer)

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

        def answer(found: r.Settled) -> pb.SettleResponse:
            return pb.SettleResponse(
                charged=found.charged,
                shortfall=found.shortfall,
                returned=found.returned,
                late=found.late,
                hold=messages.hold(found.hold),
                replayed=found.replayed,
                totals=messages.totals(command.account_id, found.totals),
            )

        return Step(command, answer)

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

        def answer(found: r.Refunded) -> pb.RefundResponse:
            return pb.RefundResponse(
                refunded=found.refunded,
                hold=messages.hold(found.hold),
                replayed=found.replayed,
                totals=messages.totals(command.account_id, found.totals),
            )

        return Step(command, answer)

    def _get_hold(self, request: pb.GetHoldRequest) -> Step:
        command = c.GetHold(
            account_id=checks.identifier(request.account_id, "account_id"),
            hold_id=checks.identifier(request.hold_id, "hold_id"),
        )
        return Step(command, lambda found: pb.GetHoldResponse(hold=messages.hold(found)))

    def _get_balance(self, request: pb.GetBalanceRequest) -> Step:
        catalog = self._catalogs.current
        command = c.GetBalance(
            account_id=checks.identifier(request.account_id, "account_id"),
            action=checks.optional_identifier(request.action, "action"),
            model=checks.optional_identifier(request.model, "model"),
            rules=catalog.rules,
        )

        def answer(found: r.Balance) -> pb.GetBalanceResponse:
            ends = [row.ends_ms for row in found.buckets if row.ends_ms and not row.ended]
            resets = messages.resets(found, catalog.plans)
            return pb.GetBalanceResponse(
                totals=messages.totals(command.account_id, found.totals),
                buckets=[messages.bucket(row, resets) for row in found.buckets],
                payable=found.payable,
                open_holds=found.open_holds,
                unit=catalog.unit,
                decimals=catalog.decimals,
                next_end_at=messages.instant(min(ends)) if ends else None,
                zone=found.zone,
                plan_id=found.plan,
            )

        return Step(command, answer)

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

        def answer(found: r.Balance) -> pb.QuoteResponse:
            decision, missing = _judged(terms, found)
            now_ms = found.totals.as_of_ms
            denied = Denied(
                catalog=catalog,
                decision=decision,
                job=job,
                missing=missing,
                plan=found.plan,
                schedule=found.schedule,
                now_ms=now_ms,
            )
            binds = None if terms is None else messages.instant(now_ms + catalog.quote_ms)
            return pb.QuoteResponse(
                **(APPROVED if decision is r.Decision.APPROVED else denied.fields()),
                amount=0 if terms is None else terms.amount,
                price=None if terms is None else messages.price(terms.price),
                payable=found.payable,
                totals=messages.totals(command.account_id, found.totals),
                catalog_version=catalog.version,
                binds_until=binds,
            )

        return Step(command, answer)


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


def _quoted_terms(catalog: Catalog, quoted: Catalog | None, job: c.Job) -> c.Terms | None:
    """The price of the quote while it binds; all else is the catalog's in force."""
    terms = catalog.terms(job)
    bound = None if quoted is None else quoted.terms(job)
    if bound is None or terms is None:
        return bound or terms
    return replace(
        terms, price=bound.price, amount=bound.amount, catalog_version=bound.catalog_version
    )


def _decision(catalog: Catalog, found: r.Authorized | r.Extended, job: c.Job) -> dict[str, Any]:
    """The fields that tell an approval from a denial, and what helps against it (R44)."""
    if found.decision is r.Decision.APPROVED:
        return APPROVED
    return Denied(
        catalog=catalog,
        decision=found.decision,
        job=job,
        missing=found.missing,
        plan=found.plan,
        schedule=found.schedule,
        now_ms=found.totals.as_of_ms,
    ).fields()


def _placed(
    response: type[pb.AuthorizeResponse] | type[pb.ChargeResponse],
    command: c.Authorize | c.Charge,
    catalog: Catalog,
    found: r.Authorized,
) -> Message:
    return response(
        **_decision(catalog, found, command.job),
        amount=found.amount,
        hold=None if found.hold is None else messages.hold(found.hold),
        replayed=found.replayed,
        totals=messages.totals(command.account_id, found.totals),
        missing=found.missing,
    )
