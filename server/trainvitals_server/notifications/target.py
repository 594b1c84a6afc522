"""What a target is: one place that messages go to, of whatever kind, and what a try to reach it may cost."""

from typing import Protocol

from trainvitals_server.errors import ServerError
from trainvitals_server.notifications.message import Message

SECONDS = 10.0  # for one try


class UndeliveredError(ServerError):
    """A try failed; the reason in one line, without secrets."""


class Target(Protocol):
    """One place that messages go to. `name` may be shown, and is no other target's."""

    name: str

    def send(self, message: Message, url: str) -> None:
        """Send a message, `url` being the page's. Raises `UndeliveredError`. May take as long as it takes."""

    def abandon(self, message: Message) -> None:
        """Break off the try of a message that took too long, from another thread."""
