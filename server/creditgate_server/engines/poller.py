"""How gRPC's core waits for sockets: in the thread that asks it for events, or in its own threads.

Its own threads cost a call two changes of thread: half of what an empty one takes. That grpcio uses
them is an "experiment" of the core, switched on at some release after 1.71; without it the core
waits as all releases before did. One that no longer knows the switch says so in a line on stderr,
and serves all the same.
"""

from collections.abc import MutableMapping

_SWITCHES = "GRPC_EXPERIMENTS"


def choose(environment: MutableMapping[str, str]) -> None:
    """Wait where it costs least. Only before grpc is imported; what the operator set stays."""
    environment.setdefault(_SWITCHES, "-event_engine_listener")
