"""Every other service, through Apprise, which knows how to speak to them."""

import apprise

from trainvitals_server.errors import SettingsError
from trainvitals_server.notifications import addresses
from trainvitals_server.notifications.message import Message
from trainvitals_server.notifications.target import SECONDS, UndeliveredError

KINDS = {"info": "info", "warning": "warning", "critical": "failure"}  # severity -> Apprise's kind of message
INERT = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a"})  # what mentions and mark-up are made of in chat


class Messenger:
    """One service."""

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        asset = apprise.AppriseAsset(
            async_mode=False, secure_logging=True, http_redirects=False, service_timeout=SECONDS, app_id="trainvitals"
        )
        found = apprise.Apprise.instantiate(address, asset=asset)
        if found is None:
            raise SettingsError(f"{addresses.EXPECTED}, got {name}, which Apprise does not know or cannot use")
        self._service = apprise.Apprise(asset=asset)
        self._service.add(found)

    def send(self, message: Message, url: str) -> None:
        """Hand it to the service. Raises `UndeliveredError`."""
        text = "\n".join(filter(None, (message.text.translate(INERT), url, f"event {message.id}")))
        kind = apprise.NotifyType(KINDS[message.severity])
        title = message.title.translate(INERT)
        if not self._service.notify(text, title, kind, body_format=apprise.NotifyFormat.TEXT):
            raise UndeliveredError("the service did not take it")

    def abandon(self, message: Message) -> None:
        """Nothing: Apprise ends a try by its own limits."""
