"""The service `Accounts`: for billing systems, which create accounts and fill their buckets."""

from collections.abc import Callable

from google.protobuf.message import Message

from creditgate.v1 import accounts_pb2 as pb
from creditgate_server.core import commands as c
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.ledger import Ledger
from creditgate_server.rpc import checks, messages

LIMITS_MAX = 32
_ENTRY_CURSOR = r"\d{1,20}-\d{1,20}"
# A bucket that creditgate made has a "/" in its id.
_MADE_BY_US = "/"


class Accounts:
    """For billing systems. `catalog` gives the catalog in force at the moment of a request."""

    def __init__(self, ledger: Ledger, catalog: Callable[[], Catalog]) -> None:
        self._ledger = ledger
        self._catalog = catalog

    async def put_account(self, request: pb.PutAccountRequest) -> Message:
        """Create an account, or change its settings."""
        command = c.PutAccount(
            account_id=checks.identifier(request.account_id, "account_id"),
            zone=checks.zone(request.zone, "zone"),
        )
        found = await self._ledger.run(command)
        return pb.PutAccountResponse(account=messages.account(found.account), created=found.created)

    async def get_account(self, request: pb.GetAccountRequest) -> Message:
        """Show an account."""
        account_id = checks.identifier(request.account_id, "account_id")
        found = await self._ledger.run(c.GetAccount(account_id=account_id))
        return pb.GetAccountResponse(account=messages.account(found))

    async def grant_credits(self, request: pb.GrantCreditsRequest) -> Message:
        """Put credits on an account, as a bucket named by the `source_ref`."""
        command = c.Grant(
            account_id=checks.identifier(request.account_id, "account_id"),
            source_ref=checks.identifier(request.source_ref, "source_ref"),
            kind=checks.known(request.kind, messages.GRANTABLE, "kind"),
            amount=checks.amount(request.amount, "amount", 1),
            ends_ms=checks.optional_instant_ms(request, "ends_at"),
            actions=checks.identifiers(request.actions, "actions", LIMITS_MAX),
            models=checks.identifiers(request.models, "models", LIMITS_MAX),
            rules=self._catalog().rules,
        )
        found = await self._ledger.run(command)
        return pb.GrantCreditsResponse(
            bucket=messages.bucket(found.bucket),
            replayed=found.replayed,
            totals=messages.totals(command.account_id, found.totals),
        )

    async def void_bucket(self, request: pb.VoidBucketRequest) -> Message:
        """Take back what is available in a bucket."""
        for part in request.bucket_id.split(_MADE_BY_US, 1):
            checks.identifier(part, "bucket_id")
        command = c.VoidBucket(
            account_id=checks.identifier(request.account_id, "account_id"),
            bucket_id=request.bucket_id,
            rules=self._catalog().rules,
        )
        found = await self._ledger.run(command)
        return pb.VoidBucketResponse(
            bucket=messages.bucket(found.bucket),
            totals=messages.totals(command.account_id, found.totals),
        )

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
