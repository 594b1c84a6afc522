"""One alert of one run."""

from typing import Literal

import msgspec

from trainvitals_server.rules import Severity

Status = Literal["firing", "acknowledged", "resolved", "regressed"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule found about one layer (None: the run as a whole) of one rank, over its whole life. `count` is how
    often the rule spoke up; `value` and `threshold` are those of the last time it did. Times are Unix seconds."""

    id: int = 0
    run: str
    rank: int = 0
    rule: str
    title: str
    layer: str | None
    severity: Severity
    status: Status
    first_step: int
    last_step: int
    count: int
    value: float
    threshold: float
    text: str
    opened: float
    updated: float
