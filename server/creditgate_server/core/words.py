"""Enums that are looked up for every request."""

import enum


class Word(enum.Enum):
    """An enum whose members are hashed by what they are: each is there once.

    The library hashes them by name, which is a call into Python at each look-up in a table.
    """

    __hash__ = object.__hash__
