"""Open a run as it went: a file of `trainvitals export`, or a run of the server.

A file is opened by a server of its own, on this machine, for reading only, until Ctrl-C; nothing of it is kept.
"""

import argparse
import tempfile
import time
import webbrowser
from functools import partial
from pathlib import Path
from urllib.parse import quote

from trainvitals_server.api.signin import link
from trainvitals_server.cli import client
from trainvitals_server.cli import open as opening
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import ServerError
from trainvitals_server.life.importing import import_alone
from trainvitals_server.service import Service
from trainvitals_server.settings import Settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to open."""
    parser.add_argument("target", metavar="FILE_OR_RUN", help="a file of `trainvitals export`, or a run of the server")
    parser.add_argument("--port", type=int, default=0, help="port for a file's server (default: a free one)")
    parser.add_argument("--print", action="store_true", help="only print the link")
    parser.add_argument("--json", action="store_true", help="only print the link, as JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """A file, if there is one of that name, else a run."""
    file = Path(options.target)
    if not file.is_file():
        if file.suffix or len(file.parts) > 1:
            raise Failure(f"expected a file of `trainvitals export` or a run, got {options.target!r}, which is no file")
        return opening.run(options)
    with tempfile.TemporaryDirectory(prefix="trainvitals-replay-") as folder:
        settings = Settings(port=options.port, directory=Path(folder))
        try:
            with Bar("opening") as bar:
                name = import_alone(settings.database, file, time.time(), bar.show)
            service = Service(settings)
            service.when_ready = partial(announce, service, name, options)
            service.run_forever()
        except ServerError as error:
            raise Failure(str(error)) from error
    return 0


def announce(service: Service, name: str, options: argparse.Namespace, url: str, _: str) -> None:
    """Say where it is, by a link that may only read."""
    address = f"{link(service.parts, 'view')}#/runs/{quote(name, safe='')}"
    if options.json:
        show_json({"url": address})
        return
    print(f"{safe(address)}\nCtrl-C ends it", flush=True)
    if not options.print:
        webbrowser.open(address)
