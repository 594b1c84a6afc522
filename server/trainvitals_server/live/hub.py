"""Fan-out: what was committed goes to the browsers that follow its run. Lives on the event loop; it never waits."""

import logging
from collections.abc import Iterator
from typing import Any

from trainvitals_server.changes import Changes, RunChanges
from trainvitals_server.jsontext import dumps
from trainvitals_server.live import frames
from trainvitals_server.live.client import Client
from trainvitals_server.records import alert_record, command_record, event_record, series_record

log = logging.getLogger("trainvitals.server")


class Hub:
    """The clients, and what changed since the summaries were sent last."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.changed: set[str] = set()  # runs whose summary is due
        self.list_changed = False
        self.dropped = 0  # frames dropped for clients that have left

    def join(self, client: Client) -> None:
        """Enter a client."""
        self.clients.add(client)

    def leave(self, client: Client) -> None:
        """Take a client out."""
        self.clients.discard(client)
        self.dropped += client.dropped

    def followers(self, run: str | None) -> list[Client]:
        """The clients that follow a run (None: the list)."""
        return [client for client in self.clients if client.run == run]

    def mark(self, run: str) -> None:
        """A run's summary has changed."""
        self.changed.add(run)
        self.list_changed = True

    def tell(self, run: str | None, message: dict[str, Any]) -> None:
        """Send a message to the clients that follow a run (None: the list)."""
        text = dumps(message)
        for client in self.followers(run):
            client.tell_text(text)

    def publish(self, changes: Changes) -> None:
        """Hand out what was committed; a run that cannot be told does not silence the others."""
        for run, changed in changes.items():
            self.mark(run)
            clients = self.followers(run)
            for tell in (self._tell, self._show) if clients else ():
                try:
                    tell(clients, changed)
                except Exception:  # whatever a trainer made it out of
                    log.exception("what changed in run %s could not be told", run)

    @staticmethod
    def _tell(clients: list[Client], changed: RunChanges) -> None:
        for message in messages(changed):
            text = dumps(message)
            for client in clients:
                client.tell_text(text)

    @staticmethod
    def _show(clients: list[Client], changed: RunChanges) -> None:
        for frame in changed.frames:
            message = frames.encode(frame)
            for client in clients:
                if client.rank is not None and client.rank != frame.rank:
                    continue
                if frame.layout not in client.layouts:
                    client.layouts.add(frame.layout)
                    client.tell({"type": "layout", "layout": frame.layout, "series": frame.columns.tolist()})
                client.show(frame.step, message)


def messages(changed: RunChanges) -> Iterator[dict[str, Any]]:
    """What changed, as messages, frames aside."""
    if changed.series:
        yield {"type": "series", "series": [series_record(row) for row in changed.series]}
    if changed.events:
        yield {"type": "events", "events": [event_record(row) for row in changed.events]}
    if changed.alerts:
        latest = {alert.id: alert for alert in changed.alerts}
        yield {"type": "alerts", "alerts": [alert_record(alert) for alert in latest.values()]}
    for command in changed.commands:
        yield {"type": "command", "command": command_record(command)}
