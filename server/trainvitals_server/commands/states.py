"""The states of a command, and which may follow which, as a table.

requested -> delivered -> applied -> verified, or refused / failed / expired / unknown with a reason. What a trainer
reports may skip states. `expired` is what the server believes when nobody took the command in time, `unknown` when the
trainer went away before it said how it ended; a trainer's own report, which may be late, overrules both.
"""

from trainvitals.wire import CommandState

DELIVERY_SECONDS = 30.0

_REPORTED: frozenset[CommandState] = frozenset({"delivered", "applied", "verified", "refused", "failed", "unknown"})

NEXT: dict[CommandState, frozenset[CommandState]] = {
    "requested": _REPORTED | {"expired"},
    "expired": _REPORTED,
    "delivered": _REPORTED - {"delivered"},
    "applied": frozenset({"verified", "failed", "unknown"}),
    "verified": frozenset(),
    "refused": frozenset(),
    "failed": frozenset(),
    "unknown": frozenset({"applied", "verified", "refused", "failed"}),
}
STAMPED: frozenset[CommandState] = frozenset({"delivered", "applied", "verified"})  # states whose time is kept


def may_follow(state: CommandState, following: CommandState) -> bool:
    """Whether a command may go from one state to another."""
    return following in NEXT[state]
