"""Which engine serves: the one on gRPC's core where it fits, else the one on grpc.aio."""

import logging

import grpc

from creditgate_server.engines.engine import OPTIONS, Endpoints, Engine, Name, Options
from creditgate_server.engines.turns import NotShareable

_log = logging.getLogger(__name__)


class NoSuchEngine(Exception):
    """The engine that was asked for does not run here. The message says why and what to do."""


def engine(name: Name, endpoints: Endpoints, options: Options = OPTIONS) -> Engine:
    """An engine of the running loop. `auto`: core where it fits. Raises `NoSuchEngine`."""
    if name != "aio":
        try:
            return _core(endpoints, options)
        except NotShareable as error:
            misfit = f"with this event loop, {error}"
        except (AttributeError, TypeError, ImportError) as error:
            misfit = f"with grpcio {grpc.__version__}: {error}"
        if name == "core":
            raise NoSuchEngine(f"--engine core does not run {misfit}; choose aio or auto")
        _log.warning("the engine core does not run %s; aio serves, at a higher cost", misfit)
    from creditgate_server.engines.aio import AioEngine  # noqa: PLC0415 - only who uses it

    return AioEngine(endpoints, options)


def _core(endpoints: Endpoints, options: Options) -> Engine:
    # Here, since another release of grpcio may not even have the names.
    from creditgate_server.engines import core  # noqa: PLC0415

    core.check_shape()
    return core.CoreEngine(endpoints, options)
