"""The program `creditgate`: the server, a command for every call, and the demo."""

import os
import sys

from creditgate_server.engines import poller

__all__ = ["main"]


def main() -> None:
    """Run the command line. A bare install, which is the client alone, is told what it lacks."""
    if sys.argv[1:2] == ["serve"]:
        # Not later: what reads the arguments imports grpc.
        poller.choose(os.environ)
    try:
        # Not above: it is what a bare install does not have.
        from creditgate_server.cli.program import app  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        part = (missing.name or "").partition(".")[0]
        if part in {"creditgate", "creditgate_server"}:
            raise
        sys.stderr.write(
            f"creditgate: {part} is not installed, because this is the client alone; "
            "for the server and this program:\n\n    pip install 'creditgate[server]'\n"
        )
        sys.exit(1)
    app()
