"""Start the server and the page.

Listens on this machine only, unless TLS or --behind-proxy is given. Prints the address with a one-time sign-in link.
"""

import argparse
from functools import partial
from pathlib import Path

from trainvitals import home
from trainvitals_server import heap, service
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import SettingsError
from trainvitals_server.life import retention
from trainvitals_server.notifications.addresses import configured
from trainvitals_server.settings import Settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and where to keep things."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8787, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--db", type=Path, metavar="FILE", help="the database (default: in the per-user directory)")
    parser.add_argument("--directory", type=Path, help="the per-user directory (default: TRAINVITALS_DIR)")
    parser.add_argument(
        "--spool", type=Path, action="append", default=[], metavar="DIR", help="take in the spools of this folder too"
    )
    parser.add_argument("--behind-proxy", action="store_true", help="a proxy in front encrypts")
    parser.add_argument("--public-host", action="append", default=[], metavar="NAME", help="a name browsers may use")
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    parser.add_argument(
        "--retain",
        action="append",
        default=[],
        metavar="AGE,SIZE",
        help="delete ended runs after an age (30d) or, those that ended first, to keep the database below a size"
        " (20GB); 30d,20GB does both. Live and pinned runs are kept; a lost run counts as ended after a day",
    )
    parser.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help="where to send alerts, beside TRAINVITALS_ALERT_URLS (which other users cannot read); repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the address as JSON")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    heap.share()
    try:
        service.run(settings(options), partial(announce, as_json=options.json))
    except SettingsError as error:
        raise Failure(f"cannot serve: {error}", code=2) from error
    except OSError as error:
        raise Failure(f"cannot serve: {error.strerror or error}", code=2) from error
    return 0


def announce(url: str, link: str, *, as_json: bool) -> None:
    """Say where the server is, once it answers."""
    if as_json:
        show_json({"url": url, "signin": link})
    else:
        print(f"trainvitals is at {safe(url)}\nsign in once: {safe(link)}\nCtrl-C ends it", flush=True)


def settings(options: argparse.Namespace) -> Settings:
    """The options as settings. Raises `SettingsError`."""
    return Settings(
        host=options.host,
        port=options.port,
        directory=home.home(options.directory),
        db=options.db,
        behind_proxy=options.behind_proxy,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        public_hosts=tuple(options.public_host),
        retain=retention.parse(options.retain),
        notify=configured(options.notify),
        spools=tuple(options.spool),
    )
