"""One transaction of the writer, as the work done inside it sees it."""

from dataclasses import dataclass, field

from trainvitals_server.changes import Changes
from trainvitals_server.notifications.notable import Notable
from trainvitals_server.store.transactions import Connection


@dataclass
class Transaction:
    """The writing connection, the time (Unix seconds), what has changed so far, what of it people may want to be told,
    and whether the books were written for it, which then are void where this is undone."""

    connection: Connection
    now: float
    changes: Changes = field(default_factory=Changes)
    notable: list[Notable] = field(default_factory=list)
    booked: bool = False
