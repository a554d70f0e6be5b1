"""The options that several commands have, each described once."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

import durationpy
import typer

from creditgate_server.core.prices import AMOUNT_MAX

ADDRESS = "127.0.0.1:7420"
TIMEOUT = "5s"

QUANTITY_MAX = 1_000_000_000


def duration(text: str) -> timedelta:
    """A duration such as 90s, 10m or 1h30m."""
    try:
        return durationpy.from_str(text)
    except durationpy.DurationError:
        raise typer.BadParameter(f"{text!r} is no duration such as 90s, 10m or 1h30m") from None


def instant(text: str) -> datetime:
    """An ISO 8601 instant. It names its zone: ours may not be the server's."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 instant such as 2030-01-31T00:00:00Z"
        ) from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} does not say its zone: add Z for UTC, or +01:00")
    return found


def setting(text: str) -> tuple[str, str]:
    """A setting of a job, NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE, such as resolution=1080p")
    return name, value


_SERVER = "Server"
_JOB = "Job"

Address = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="CREDITGATE_ADDRESS",
        metavar="HOST:PORT",
        help="The server: host:port, or unix:/path.",
        rich_help_panel=_SERVER,
    ),
]
Timeout = Annotated[
    timedelta,
    typer.Option(
        "--timeout",
        parser=duration,
        metavar="DURATION",
        help="How long to go on asking.",
        rich_help_panel=_SERVER,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document, as the contract names its fields."),
]

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account.")]
HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold: the id of its job.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Your id of the job; it becomes the hold's.")
]
BucketId = Annotated[str, typer.Argument(metavar="BUCKET", help="The bucket.")]

Action = Annotated[
    str,
    typer.Option(help="What is to be run, such as [cyan]image.generate[/].", rich_help_panel=_JOB),
]
Model = Annotated[
    str,
    typer.Option(
        help="The model; needed where the price depends on it.",
        show_default=False,
        rich_help_panel=_JOB,
    ),
]
JobQuantity = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=QUANTITY_MAX,
        metavar="N",
        help="How many of the price's unit: images, seconds … Unless given, 1.",
        show_default=False,
        rich_help_panel=_JOB,
    ),
]
JobSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--setting",
        metavar="NAME=VALUE",
        help="What else the price depends on, such as [cyan]resolution=1080p[/]; repeat it.",
        show_default=False,
        rich_help_panel=_JOB,
    ),
]
MaxAmount = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=AMOUNT_MAX,
        metavar="N",
        help="Deny rather than pay more than this.",
        show_default=False,
    ),
]
Member = Annotated[
    str, typer.Option(help="Who of the account's members runs it.", show_default=False)
]
Ttl = Annotated[
    timedelta | None,
    typer.Option(
        parser=duration,
        metavar="DURATION",
        help="How long from now the hold stands: 90s, 10m, 2h. Unless given, as the catalog says.",
        show_default=False,
    ),
]
Quantity = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=QUANTITY_MAX,
        metavar="N",
        help="In units of the hold's price: images, seconds …",
        show_default=False,
    ),
]
Amount = Annotated[
    int | None,
    typer.Option(min=0, max=AMOUNT_MAX, metavar="N", help="In credits.", show_default=False),
]
Operation = Annotated[
    str,
    typer.Option(
        metavar="ID",
        help="Your id of this operation; the same one when you send it again.",
        show_default=False,
    ),
]
KindName = Literal["free", "subscription", "add_on", "top_up", "promotional", "referral"]


def settings_of(texts: list[str] | None) -> dict[str, str]:
    """The settings that were given, by name."""
    return dict(map(setting, texts or ()))


def not_both(**given: int | None) -> None:
    """Refuse two ways of saying how much."""
    if all(value is not None for value in given.values()):
        raise typer.BadParameter(f"give {' or '.join(f'--{name}' for name in given)}, not both")
