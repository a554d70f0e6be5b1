"""Every key, spelled once. All keys of one partition share a hash tag, hence a slot and a server.

An account belongs to one partition for ever, so their number is chosen when a store is created.
"""

import zlib
from dataclasses import dataclass
from functools import cache

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

STORE = "creditgate:store"
"""What the store as a whole is: the layout of its records and the number of its partitions."""

PARTITIONS_DEFAULT = 64
PARTITIONS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Partition:
    """The keys of one partition."""

    tag: str
    deadlines: str
    ledger: str
    closed: str

    def account(self, account_id: str) -> str:
        """The key of an account that belongs here."""
        return f"creditgate:{{{self.tag}}}:account:{account_id}"


def fence(key: str) -> tuple[str, ...]:
    """A write that changes nothing, to a key that scripts of the same partition write to.

    Its field is what keeps that key in being from the partition's first account on.
    """
    return "HSET", f"{key[: key.index('}') + 1]}:closed", "*", "-"


class Keys:
    """Which keys an account's commands touch."""

    def __init__(self, partitions: int) -> None:
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise ValueError(f"partitions: {partitions}, allowed are 1 to {PARTITIONS_MAX}")
        self.partitions = tuple(
            Partition(
                tag,
                f"creditgate:{{{tag}}}:deadlines",
                f"creditgate:{{{tag}}}:ledger",
                f"creditgate:{{{tag}}}:closed",
            )
            for tag in _tags(partitions)
        )

    def partition_of(self, account_id: str) -> Partition:
        """The partition of an account, by a checksum that never changes."""
        return self.partitions[zlib.crc32(account_id.encode()) % len(self.partitions)]


@cache
def _tags(partitions: int) -> tuple[str, ...]:
    """A tag for each partition: the smallest number whose slot lies in the partition's share.

    Tags 0, 1, 2 … would fall where the checksum throws them; these spread evenly over any cluster
    that gives each server a range of slots.
    """
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        share = key_slot(str(number).encode()) * partitions // REDIS_CLUSTER_HASH_SLOTS
        found.setdefault(share, str(number))
        number += 1
    return tuple(found[share] for share in range(partitions))
