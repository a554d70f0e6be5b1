"""A worker that holds credits and never ends its job by itself: the demo kills it.

python -m creditgate_server.cli.demo.worker ADDRESS ACCOUNT HOLD SECONDS
"""

import sys

import creditgate


def work(address: str, account_id: str, hold_id: str, ttl_s: float) -> None:
    """Hold the price of a video and say so; then work until our input is closed."""
    with (
        creditgate.Client(address) as client,
        client.hold(
            account_id,
            hold_id,
            action="video.generate",
            model="video-draft",
            quantity=60,
            ttl=ttl_s,
        ) as hold,
    ):
        sys.stdout.write(f"holding {hold.amount}\n")
        sys.stdout.flush()
        # Not asleep: if the demo itself is killed, its end of the pipe is closed, and we end too.
        sys.stdin.read()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
