"""The targets that messages are sent to, made from their addresses; and one try to reach one of them.

A try is made by a thread of its own that nobody waits for: neither a name server nor a peer that dribbles can hold up
the event loop, the writer, or the end of the program.
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future

from trainvitals_server.errors import SettingsError
from trainvitals_server.notifications import addresses
from trainvitals_server.notifications.message import Message
from trainvitals_server.notifications.target import SECONDS, Target, UndeliveredError

# They write addresses, which hold secrets, into the log.
TALKERS = ("httpx", "httpcore", "apprise", "requests", "urllib3")

log = logging.getLogger("trainvitals.server")


def open_targets(urls: Iterable[str]) -> list[Target]:
    """The targets at these addresses. Raises `SettingsError` for one that cannot be used."""
    seen: Counter[str] = Counter()
    found = []
    for url in urls:
        hush()
        masked = addresses.mask(url)
        seen[masked] += 1
        found.append(_open(url, masked if seen[masked] == 1 else f"{masked} ({seen[masked]})"))
    return found


def _open(url: str, name: str) -> Target:
    """What each kind needs is imported only where it is configured."""
    if addresses.scheme(url) in addresses.WEBHOOKS:
        from trainvitals_server.notifications.webhook import Webhook  # noqa: PLC0415

        return Webhook(url, name)
    try:
        from trainvitals_server.notifications.messenger import Messenger  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{name} needs {error.name}, which is not installed; pip install 'trainvitals[server]'"
        ) from error
    return Messenger(url, name)


def hush() -> None:
    """Keep addresses out of the log."""
    for name in TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


async def attempt(target: Target, message: Message, url: str, seconds: float = SECONDS) -> str:
    """One try; "" or why it failed. Takes at most `seconds`."""
    future: Future[str] = Future()
    future.set_running_or_notify_cancel()  # so that whoever stops waiting does not keep the thread from answering
    thread = threading.Thread(target=_try, args=(target, message, url, future), name="trainvitals-notify", daemon=True)
    thread.start()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        target.abandon(message)
        return f"no answer within {seconds:g} s"


def _try(target: Target, message: Message, url: str, future: Future[str]) -> None:
    try:
        target.send(message, url)
    except UndeliveredError as error:
        future.set_result(str(error))
    except Exception as error:  # what it says may hold secrets, so that only its kind is told
        future.set_result(f"it could not be sent ({type(error).__name__})")
    else:
        future.set_result("")
