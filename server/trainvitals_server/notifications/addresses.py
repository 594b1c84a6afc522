"""Where messages go: the operator's addresses, read from settings alone, and how they may be shown.

An address holds secrets, in its path, its user part, and with many services in what looks like a host name. It is shown
by its scheme, and with a webhook its host, and never otherwise.
"""

import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from trainvitals_server.errors import SettingsError

VARIABLE = "TRAINVITALS_ALERT_URLS"
WEBHOOKS = {"json": "http", "jsons": "https", "http": "http", "https": "https"}  # scheme -> what is spoken

# Addresses may hold commas (several recipients of one mail); one that ends an address is followed by another scheme.
BETWEEN = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)|\s+|\s*,\s*$")
EXPECTED = "expected a notification target like https://HOST/PATH, json://HOST/PATH or an Apprise URL (slack://...)"


def configured(given: Iterable[str] = ()) -> tuple[str, ...]:
    """The addresses in the environment, separated by white space or commas, and those that were `given`; each once."""
    text = " ".join([os.environ.get(VARIABLE, ""), *given])
    return tuple(dict.fromkeys(one for one in BETWEEN.split(text) if one))


def scheme(address: str) -> str:
    """The scheme, in lower case. Raises `SettingsError` where there is none."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://", address)
    if found is None:
        raise SettingsError(f"{EXPECTED}, got one without a scheme")
    return found[1].lower()


def mask(address: str) -> str:
    """An address as it may be shown."""
    kind = scheme(address)
    return f"{kind}://{place(address)}" if kind in WEBHOOKS else f"{kind}://..."


def place(address: str) -> str:
    """Host and port of a webhook. Raises `SettingsError`."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # its message may hold what must not be shown
        host, port = None, None
    if not host or not re.fullmatch(r"[\w.:-]+", host):
        raise SettingsError(f"{EXPECTED}, got {scheme(address)}:// without a host or with a wrong port")
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
