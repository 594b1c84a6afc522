"""Make a one-time sign-in link for a running server, and open it in a browser."""

import argparse
import webbrowser
from urllib.parse import quote

from trainvitals_server.cli import client
from trainvitals_server.cli.text import safe, show_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run to show, and whether to open it."""
    parser.add_argument("target", metavar="RUN", nargs="?", help="show this run (id, name, or beginning of one)")
    parser.add_argument("--print", action="store_true", help="only print the link")
    parser.add_argument("--json", action="store_true", help="only print the link, as JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the link, and open it where there is a browser."""
    with client.connect(options, role="control") as server:
        name = client.resolve(server, options.target) if options.target else None
        url = server.post("/api/signin")["url"]
    link = f"{url}#/runs/{quote(name, safe='')}" if name else url
    if options.json:
        show_json({"url": link})
        return 0
    print(safe(link), flush=True)
    if not options.print:
        webbrowser.open(link)
    return 0
