"""One transaction of the writer, as the work done inside it sees it."""

from dataclasses import dataclass, field

from trainvitals_server.changes import Changes
from trainvitals_server.store.transactions import Connection


@dataclass
class Transaction:
    """The writing connection, the time (Unix seconds), and what has changed so far."""

    connection: Connection
    now: float
    changes: Changes = field(default_factory=Changes)
