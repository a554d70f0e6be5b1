"""The service `Catalog`: what the operator's catalog says."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from creditgate.v1 import catalog_pb2 as pb
from creditgate_server.core import catalog as core
from creditgate_server.core.catalog import PricedAction
from creditgate_server.rpc import checks, messages
from creditgate_server.rpc.in_force import Catalogs


class Catalog:
    """Names, order, plans, prices."""

    def __init__(self, catalogs: Catalogs) -> None:
        self._catalogs = catalogs
        self._shown = _show(catalogs.current)

    async def get_catalog(self, _request: pb.GetCatalogRequest) -> Message:
        """Show the catalog in force, without its prices."""
        catalog = self._catalogs.current
        if catalog.version != self._shown.version:
            self._shown = _show(catalog)
        return self._shown

    async def reload_catalog(self, _request: pb.ReloadCatalogRequest) -> Message:
        """Read the catalog's file again; the one in force stays if anything is wrong with it."""
        found = await self._catalogs.reload()
        return pb.ReloadCatalogResponse(
            version=found.version,
            previous_version=found.previous_version,
            problems=found.problems,
        )

    async def list_prices(self, request: pb.ListPricesRequest) -> Message:
        """List the prices in force (R47)."""
        catalog = self._catalogs.current
        action = checks.optional_identifier(request.action, "action")
        return pb.ListPricesResponse(
            prices=map(_priced, catalog.priced(action)), catalog_version=catalog.version
        )


def _show(catalog: core.Catalog) -> pb.GetCatalogResponse:
    return pb.GetCatalogResponse(
        name=catalog.name,
        version=catalog.version,
        unit=catalog.unit,
        decimals=catalog.decimals,
        kinds=[messages.KINDS[kind] for kind in catalog.kinds],
        packs=catalog.packs,
        plans=map(messages.plan, catalog.plans.plans),
    )


def _duration(ms: int) -> Duration:
    seconds, rest = divmod(ms, 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def _priced(found: PricedAction) -> pb.PricedAction:
    message = pb.PricedAction(
        action=found.action,
        title=found.title,
        model=found.model,
        settings=[
            pb.PricedSetting(
                name=setting.name,
                default_value=setting.default_value,
                factors=setting.factor_texts,
            )
            for setting in found.settings
        ],
        ttl=_duration(found.ttl_ms),
        ttl_max=_duration(found.life_ms_max),
    )
    messages.write_price(message.price, found.price)
    return message
