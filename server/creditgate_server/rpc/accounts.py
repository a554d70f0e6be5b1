"""The service `Accounts`: for billing systems, which create accounts and fill their buckets."""

from typing import Any

from google.protobuf.message import Message

from creditgate.v1 import accounts_pb2 as pb
from creditgate.v1.resources_pb2 import DECISION_APPROVED
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core import schedule
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.faults import Fault, Reason, invalid
from creditgate_server.core.ledger import Ledger
from creditgate_server.core.plans import Buyers
from creditgate_server.rpc import checks, messages
from creditgate_server.rpc.explanation import Case, explain
from creditgate_server.rpc.in_force import Catalogs
from creditgate_server.rpc.remedies import Denied
from creditgate_server.rpc.usage import Usage

SEATS_MAX = UNITS_MAX = TIMES_MAX = 1_000_000
PLANNED_MAX = 100
BUFFER_PERCENT = 25
_ENTRIES = 1_000
_HOLDS = 20
_MONTH_MS = 30 * 86_400_000
_ENTRY_CURSOR = r"\d{1,20}-\d{1,20}"
# A bucket that creditgate made has a "/" in its id.
_MADE_BY_US = "/"

_WHEN = {
    pb.WHEN_UNSPECIFIED: None,
    pb.WHEN_NOW: schedule.When.NOW,
    pb.WHEN_PERIOD_END: schedule.When.PERIOD_END,
}


class Accounts:
    """For billing systems."""

    def __init__(self, ledger: Ledger, catalogs: Catalogs) -> None:
        self._ledger = ledger
        self._catalogs = catalogs

    async def put_account(self, request: pb.PutAccountRequest) -> Message:
        """Create an account, or change its settings."""
        catalog = self._catalogs.current
        command = c.PutAccount(
            account_id=checks.identifier(request.account_id, "account_id"),
            zone=checks.zone(request.zone, "zone"),
            rules=catalog.rules,
        )
        put = await self._ledger.run(command)
        account = await self._account(command.account_id, catalog)
        return pb.PutAccountResponse(account=account, created=put.created)

    async def get_account(self, request: pb.GetAccountRequest) -> Message:
        """Show an account."""
        account_id = checks.identifier(request.account_id, "account_id")
        account = await self._account(account_id, self._catalogs.current)
        return pb.GetAccountResponse(account=account)

    # Subscriptions --------------------------------------------------------------------------------

    async def subscribe(self, request: pb.SubscribeRequest) -> Message:
        """Put an account on a plan, or move what its subscription is paid through."""
        catalog = self._catalogs.current
        plan = checks.identifier(request.plan_id, "plan_id")
        event = schedule.Subscribe(
            plan=plan,
            seats=checks.whole(request.seats, "seats", 0, SEATS_MAX) or 1,
            anchor_ms=checks.optional_instant_ms(request, "anchor", checks.CALENDAR_S_MAX),
            paid_through_ms=checks.optional_instant_ms(
                request, "paid_through", checks.CALENDAR_S_MAX
            ),
            allowances=_allowances(request, catalog, plan),
            occurred_ms=checks.optional_instant_ms(request, "occurred_at"),
        )
        return await self._reschedule(pb.SubscribeResponse, request, event, catalog)

    async def change_plan(self, request: pb.ChangePlanRequest) -> Message:
        """Change the plan or the seats of a subscription."""
        event = schedule.ChangePlan(
            plan=checks.optional_identifier(request.plan_id, "plan_id"),
            seats=checks.whole(request.seats, "seats", 0, SEATS_MAX),
            when=checks.known(request.when, _WHEN, "when"),
            occurred_ms=checks.optional_instant_ms(request, "occurred_at"),
        )
        return await self._reschedule(pb.ChangePlanResponse, request, event, self._catalogs.current)

    async def cancel_subscription(self, request: pb.CancelSubscriptionRequest) -> Message:
        """End a subscription."""
        event = schedule.Cancel(
            when=checks.known(request.when, _WHEN, "when"),
            occurred_ms=checks.optional_instant_ms(request, "occurred_at"),
        )
        return await self._reschedule(
            pb.CancelSubscriptionResponse, request, event, self._catalogs.current
        )

    async def set_add_ons(self, request: pb.SetAddOnsRequest) -> Message:
        """Set how many units of an add-on a subscription has (R80)."""
        event = schedule.SetAddOns(
            name=checks.identifier(request.add_on_id, "add_on_id"),
            units=checks.whole(request.units, "units", 0, UNITS_MAX),
            occurred_ms=checks.optional_instant_ms(request, "occurred_at"),
        )
        return await self._reschedule(pb.SetAddOnsResponse, request, event, self._catalogs.current)

    async def _reschedule(
        self,
        response: type[Message],
        request: Any,
        event: schedule.Event,
        catalog: Catalog,
    ) -> Message:
        command = c.Reschedule(
            account_id=checks.identifier(request.account_id, "account_id"),
            reference=checks.identifier(request.reference, "reference"),
            event=event,
            rules=catalog.rules,
        )
        found = await self._ledger.run(command)
        account = await self._account(command.account_id, catalog)
        fields: dict[str, Any] = {"effect": messages.EFFECTS[found.effect], "account": account}
        return response(**fields)

    async def _account(self, account_id: str, catalog: Catalog) -> pb.Account:
        """The account with all that is known of it, in one round trip."""
        found, balance = await self._run_all(
            c.GetAccount(account_id=account_id, rules=catalog.rules),
            c.GetBalance(account_id=account_id, rules=catalog.rules),
        )
        return messages.account(found, balance.buckets, catalog.plans)

    async def _run_all(self, *commands: c.Command[Any]) -> list[Any]:
        answers = await self._ledger.run_all(commands)
        for answer in answers:
            if isinstance(answer, Fault):
                raise answer
        return answers

    # Limits ---------------------------------------------------------------------------------------

    async def set_member_limit(self, request: pb.SetMemberLimitRequest) -> Message:
        """Limit what a member, or each member, may draw in a period."""
        command = c.SetMemberLimit(
            account_id=checks.identifier(request.account_id, "account_id"),
            member_id=checks.optional_identifier(request.member_id, "member_id"),
            amount=checks.optional_amount(request, "amount"),
            rules=self._catalogs.current.rules,
        )
        found = await self._ledger.run(command)
        return pb.SetMemberLimitResponse(used=found.used)

    async def freeze(self, request: pb.FreezeRequest) -> Message:
        """Deny new holds."""
        return pb.FreezeResponse(account=await self._set_frozen(request.account_id, frozen=True))

    async def unfreeze(self, request: pb.UnfreezeRequest) -> Message:
        """Allow new holds again."""
        return pb.UnfreezeResponse(account=await self._set_frozen(request.account_id, frozen=False))

    async def _set_frozen(self, account: str, *, frozen: bool) -> pb.Account:
        catalog = self._catalogs.current
        account_id = checks.identifier(account, "account_id")
        await self._ledger.run(
            c.SetFrozen(account_id=account_id, frozen=frozen, rules=catalog.rules)
        )
        return await self._account(account_id, catalog)

    # Credits --------------------------------------------------------------------------------------

    async def purchase_top_up(self, request: pb.PurchaseTopUpRequest) -> Message:
        """Sell a pack, if the purchase rule lets the account buy (R21, R23, R37)."""
        catalog = self._catalogs.current
        amount = checks.amount(request.pack_amount, "pack_amount", 1)
        sold = amount in catalog.packs
        command = c.Grant(
            account_id=checks.identifier(request.account_id, "account_id"),
            source_ref=checks.identifier(request.payment_ref, "payment_ref"),
            kind=c.Kind.TOP_UP,
            amount=amount,
            # What is not sold nobody may buy; what was bought before is a replay all the same.
            buyers=_buyers(catalog) if sold else frozenset(),
            rules=catalog.rules,
        )
        found = await self._ledger.run(command)
        if found.bucket is None and not sold:
            packs = ", ".join(f"{pack:,}" for pack in catalog.packs) or "none"
            raise Fault(
                Reason.PACK_NOT_FOUND,
                f"the catalog sells no pack of {amount:,}; its packs: {packs}",
                metadata={"pack_amount": str(amount)},
            )
        response = pb.PurchaseTopUpResponse(replayed=found.replayed)
        messages.write_totals(response.totals, command.account_id, found.totals)
        if found.bucket is None:
            denied = Denied(
                catalog=catalog,
                decision=found.decision,
                job=None,
                missing=0,
                plan=found.plan,
                schedule=found.schedule,
                now_ms=found.totals.as_of_ms,
            )
            denied.write(response)
        else:
            response.decision = DECISION_APPROVED
            messages.write_bucket(response.bucket, found.bucket)
        return response

    async def grant_credits(self, request: pb.GrantCreditsRequest) -> Message:
        """Put credits on an account, as a bucket named by the `source_ref`."""
        command = c.Grant(
            account_id=checks.identifier(request.account_id, "account_id"),
            source_ref=checks.identifier(request.source_ref, "source_ref"),
            kind=checks.known(request.kind, messages.GRANTABLE, "kind"),
            amount=checks.amount(request.amount, "amount", 1),
            ends_ms=checks.optional_instant_ms(request, "ends_at"),
            actions=checks.identifiers(request.actions, "actions", checks.LIMITS_MAX),
            models=checks.identifiers(request.models, "models", checks.LIMITS_MAX),
            rules=self._catalogs.current.rules,
        )
        found = await self._ledger.run(command)
        assert found.bucket is not None, "only a purchase is denied"
        response = pb.GrantCreditsResponse(replayed=found.replayed)
        messages.write_bucket(response.bucket, found.bucket)
        messages.write_totals(response.totals, command.account_id, found.totals)
        return response

    async def void_bucket(self, request: pb.VoidBucketRequest) -> Message:
        """Take back what is available in a bucket."""
        for part in request.bucket_id.split(_MADE_BY_US, 1):
            checks.identifier(part, "bucket_id")
        command = c.VoidBucket(
            account_id=checks.identifier(request.account_id, "account_id"),
            bucket_id=request.bucket_id,
            rules=self._catalogs.current.rules,
        )
        found = await self._ledger.run(command)
        response = pb.VoidBucketResponse()
        messages.write_bucket(response.bucket, found.bucket)
        messages.write_totals(response.totals, command.account_id, found.totals)
        return response

    async def list_ledger(self, request: pb.ListLedgerRequest) -> Message:
        """List changes, the latest first."""
        command = c.ListLedger(
            account_id=checks.identifier(request.account_id, "account_id"),
            limit=checks.page_size(request.page_size),
            cursor=checks.page_token(request.page_token, _ENTRY_CURSOR),
        )
        page = await self._ledger.run(command)
        return pb.ListLedgerResponse(
            entries=[messages.entry(command.account_id, found) for found in page.entries],
            next_page_token=page.cursor,
        )

    # What was, what will be, and why --------------------------------------------------------------

    async def get_usage(self, request: pb.GetUsageRequest) -> Message:
        """Add up what was charged, by day, action and model (R48)."""
        account_id = checks.identifier(request.account_id, "account_id")
        from_ms = checks.optional_instant_ms(request, "from")
        until_ms = checks.optional_instant_ms(request, "until")
        if from_ms is not None and until_ms is not None and from_ms > until_ms:
            raise invalid("from", "must not be after until")
        action = checks.optional_identifier(request.action, "action")
        model = checks.optional_identifier(request.model, "model")
        account = await self._ledger.run(
            c.GetAccount(account_id=account_id, rules=self._catalogs.current.rules)
        )
        now_ms = account.totals.as_of_ms
        usage = Usage(
            zone=account.zone,
            from_ms=now_ms - _MONTH_MS if from_ms is None else from_ms,
            until_ms=until_ms,
            action=action,
            model=model,
        )
        command: c.ListLedger | None = c.ListLedger(account_id=account_id, limit=_ENTRIES)
        while command is not None:
            page = await self._ledger.run(command)
            more = usage.add(page.entries) and page.cursor
            command = (
                c.ListLedger(account_id=account_id, limit=_ENTRIES, cursor=page.cursor)
                if more
                else None
            )
        return usage.answer()

    async def forecast(self, request: pb.ForecastRequest) -> Message:
        """Estimate what a month of jobs costs (R41 to R43)."""
        catalog = self._catalogs.current
        if not 1 <= len(request.planned) <= PLANNED_MAX:
            count = len(request.planned)
            raise invalid("planned", f"has {count} items, must be 1 to {PLANNED_MAX}")
        percent = BUFFER_PERCENT
        if request.HasField("buffer_percent"):
            percent = checks.whole(request.buffer_percent, "buffer_percent", 0, 100)
        found = catalog.forecast(
            [_planned(item, f"planned[{i}]", catalog) for i, item in enumerate(request.planned)],
            buffer_percent=percent,
        )
        return pb.ForecastResponse(
            amount=found.amount,
            buffer=found.buffer,
            prices=found.prices,
            plan_ids=found.plans,
            catalog_version=catalog.version,
        )

    async def explain(self, request: pb.ExplainRequest) -> Message:
        """Tell why a balance is what it is, and why the last request was denied (R49)."""
        catalog = self._catalogs.current
        account_id = checks.identifier(request.account_id, "account_id")
        account, balance, holds = await self._run_all(
            c.GetAccount(account_id=account_id, rules=catalog.rules),
            c.GetBalance(account_id=account_id, rules=catalog.rules),
            c.ListHolds(account_id=account_id, limit=_HOLDS),
        )
        denied = account.denied
        if denied is not None and await self._approved_since(account_id, denied.seq):
            denied = None
        case = Case(
            catalog=catalog, account=account, balance=balance, holds=holds.holds, denied=denied
        )
        said = explain(case)
        return pb.ExplainResponse(
            balance=said.balance,
            denial=said.denial,
            account=messages.account(account, balance.buckets, catalog.plans),
        )

    async def _approved_since(self, account_id: str, seq: int) -> bool:
        """Whether a job was approved after the change of this number."""
        cursor = ""
        while True:
            page = await self._ledger.run(
                c.ListLedger(account_id=account_id, limit=_ENTRIES, cursor=cursor)
            )
            for entry in page.entries:
                if entry.seq <= seq:
                    return False
                if entry.verb in {r.Verb.AUTHORIZE, r.Verb.CHARGE}:
                    return True
            cursor = page.cursor
            if not cursor:
                return False


def _allowances(
    request: pb.SubscribeRequest, catalog: Catalog, plan: str
) -> tuple[tuple[str, int], ...]:
    """Allowances by contract, each for a grant that the plan has."""
    found = checks.amounts(request.allowances, "allowances")
    known = catalog.plans.by_name.get(plan)
    if known is not None:
        names = [grant.name for grant in known.grants]
        for name, _ in found:
            if name not in names:
                listed = ", ".join(names) or "none"
                raise invalid("allowances", f"plan {plan} has no grant {name}, it has: {listed}")
    return found


def _buyers(catalog: Catalog) -> frozenset[str] | None:
    """The plans that may buy; None for any."""
    plans = catalog.plans
    if plans.buyers is Buyers.ANYONE:
        return None
    return frozenset(plan.name for plan in plans.plans if plans.may_buy(plan.name))


def _planned(item: pb.ForecastRequest.Planned, path: str, catalog: Catalog) -> tuple[c.Job, int]:
    job = checks.job(item.job, f"{path}.job")
    times = checks.whole(item.times, f"{path}.times", 1, TIMES_MAX)
    try:
        catalog.terms(job)
    except Fault as fault:
        _, _, message = fault.message.partition(": ")
        raise invalid(f"{path}.job.quantity", message) from None
    return job, times
