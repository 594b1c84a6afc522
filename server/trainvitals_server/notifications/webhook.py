"""A webhook: one POST of a JSON object. No redirect is followed, certificates are verified, the answer's body is not
read. `Idempotency-Key` and `event_id` are the same however often a message is sent."""

import ssl
from functools import cached_property
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx

from trainvitals_server.cli.text import safe
from trainvitals_server.clock import iso
from trainvitals_server.errors import SettingsError
from trainvitals_server.jsontext import dumps
from trainvitals_server.notifications import addresses
from trainvitals_server.notifications.message import Message
from trainvitals_server.notifications.target import SECONDS, UndeliveredError


class Webhook:
    """One address. With `json://` and `jsons://`, as with Apprise, a part `+NAME=VALUE` of the query is a header."""

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        parts = urlsplit(address)
        pairs = parts.query.split("&") if parts.query else []
        own = parts.scheme.lower().startswith("json")
        headers = [pair[1:] for pair in pairs if own and pair.startswith("+")]
        query = "&".join(pair for pair in pairs if not (own and pair.startswith("+")))
        spoken = addresses.WEBHOOKS[parts.scheme.lower()]
        try:
            self._url = httpx.URL(urlunsplit((spoken, parts.netloc, parts.path, query, "")))
            self._headers = httpx.Headers(parse_qsl("&".join(headers)))
            self._headers.update({"Content-Type": "application/json", "User-Agent": "trainvitals"})
        except (httpx.InvalidURL, UnicodeError):
            raise SettingsError(f"{addresses.EXPECTED}, got a wrong one beginning with {name}") from None
        self._tries: dict[str, httpx.Client] = {}  # message id -> the one that goes on

    def send(self, message: Message, url: str) -> None:
        """Post it. Raises `UndeliveredError`."""
        headers = [*self._headers.items(), ("Idempotency-Key", message.id)]
        with httpx.Client(verify=self._certificates, timeout=SECONDS, follow_redirects=False) as client:
            self._tries[message.id] = client
            try:
                with client.stream("POST", self._url, content=dumps(body(message, url)), headers=headers) as answer:
                    check(answer)
            except httpx.TimeoutException:
                raise UndeliveredError(f"no answer within {SECONDS:g} s") from None
            except httpx.ConnectError as error:
                raise UndeliveredError(f"it cannot be reached: {str(error)[:200]}") from None
            except httpx.HTTPError as error:  # what it says may repeat the request
                raise UndeliveredError(f"expected an answer in HTTP, got {type(error).__name__}") from None
            finally:
                self._tries.pop(message.id, None)

    def abandon(self, message: Message) -> None:
        """Close the connection under a try that goes on."""
        if (client := self._tries.get(message.id)) is not None:
            client.close()

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()


def check(answer: httpx.Response) -> None:
    """Raise `UndeliveredError` unless the answer is one of success."""
    if answer.is_success:
        return
    if answer.has_redirect_location:
        where = pointed_to(answer.headers["location"])
        raise UndeliveredError(f"answered {answer.status_code}, pointing to {where}; redirects are not followed")
    raise UndeliveredError(f"expected an answer of 2xx, got {answer.status_code}")


def pointed_to(location: str) -> str:
    """Where a redirect points: the host, since the rest may repeat what is secret."""
    try:
        target = urlsplit(location)
        return safe(f"{target.scheme}://{target.hostname}"[:100]) if target.hostname else "another path"
    except ValueError:
        return "what is no address"


def body(message: Message, url: str) -> dict[str, object]:
    """What is posted."""
    return {
        "event_id": message.id,
        "title": message.title,
        "text": message.text,
        "severity": message.severity,
        "run": message.run,
        "layer": message.layer,
        "rule": message.rule,
        "step": message.step,
        "url": url,
        "time": iso(message.time),
    }
