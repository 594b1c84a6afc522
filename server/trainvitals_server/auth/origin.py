"""Where a request says it comes from: its Host, and the Origin of the page that sent it."""

from urllib.parse import urlsplit

from trainvitals_server.settings import LOOPBACK_NAMES, Settings

SECURE = {"https": True, "wss": True, "http": False, "ws": False}


def split_host(host: str) -> tuple[str, str]:
    """A Host header's name, in lower case, and its port ("" for none)."""
    name, _, port = host.lower().rpartition(":")
    return (name, port) if name and port.isdecimal() else (host.lower(), "")


def host_allowed(host: str, settings: Settings) -> bool:
    """Whether this server answers to that Host. Loopback names go with any port, so that tunnels work."""
    name, _ = split_host(host)
    public = {one.lower() for one in (*settings.public_hosts, settings.host)}
    return name in LOOPBACK_NAMES or name in public or host.lower() in public


def origin_matches(origin: str, host: str, scheme: str, *, behind_proxy: bool) -> bool:
    """Whether an Origin is the one this request's own page has. A proxy in front may have taken TLS off."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as an address that its bracket does not close
        return False
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    same_scheme = SECURE[parts.scheme] == SECURE.get(scheme) or behind_proxy
    return same_scheme and parts.netloc.lower() == host.lower()
