"""How a trainer's connection ended, and what that says about the trainer."""

from datetime import UTC, datetime
from typing import Literal

Parting = Literal["closed", "broken", "silent", "server"]

# What is known, and what it leaves open. `closed`: with a closing handshake; `broken`: without a word; `silent`: no
# answer to pings; `server`: this side ended it.
WORDS: dict[Parting, tuple[str, str]] = {
    "closed": ("the trainer closed the connection", "it may be buffering, or its machine suspended"),
    "broken": (
        "the connection broke off without a word",
        "the process was killed, or its machine or network is gone; it may be buffering",
    ),
    "silent": (
        "the trainer stopped answering",
        "its process or machine hangs or is suspended, or the network is gone; it may be buffering",
    ),
    "server": ("this server ended the connection", "the trainer may be buffering"),
}
NEVER = "no contact since this server came up: the trainer is gone, out of reach, or buffering"


def tell(parting: Parting, moment: float) -> str:
    """A connection's end at `moment` (Unix seconds) as the reason why a run is lost, once nobody has come back."""
    known, left_open = WORDS[parting]
    return f"{known} at {clock(moment)}; no contact since: {left_open}"


def clock(moment: float) -> str:
    """The time of day, UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} UTC"


def span(seconds: float) -> str:
    """A stretch of time in one unit."""
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{max(round(seconds / unit), 1)} {name}"
    return f"{round(seconds / 86_400)} days"
