"""Sending commands to the trainers that are connected. A trainer gets each command once per connection; whether it
took it, only the trainer can say."""

from collections.abc import Iterable
from typing import Any

from trainvitals_server.changes import Changes
from trainvitals_server.commands.dispatch import to_wire
from trainvitals_server.ingest.connections import Connection, Connections


def deliver(connections: Connections, changes: Changes, now: float) -> None:
    """Send the commands that were just placed."""
    for run, changed in changes.items():
        for command in changed.commands:
            for part in (command, *command["parts"]):
                connection = connections.of(run, part["producer"])
                if connection is not None:
                    hand_over(connection, [part], now)


def hand_over(connection: Connection, waiting: Iterable[dict[str, Any]], now: float) -> None:
    """Send what is requested of this trainer and has not expired."""
    for command in waiting:
        fresh = command["state"] == "requested" and command["expires"] > now
        if fresh and command["id"] not in connection.sent and connection.send(to_wire(command, now)):
            connection.sent.add(command["id"])
