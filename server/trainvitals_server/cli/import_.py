"""Take a run's file, made by `trainvitals export`, into this server.

The file is checked row by row, and nothing in it is executed; one that is not right changes nothing. A run that is
there already is refused. Without a running server the file goes straight into the database.
"""

import argparse
import time
from pathlib import Path

from trainvitals import home
from trainvitals_server import service
from trainvitals_server.cli import client
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import ServerError
from trainvitals_server.life.importing import import_alone


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file of `trainvitals export`")
    parser.add_argument("--db", type=Path, metavar="DB", help="into this database, which no server uses")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Through the server where one runs."""
    if not options.file.is_file():
        raise Failure(f"expected a file of `trainvitals export`, got {str(options.file)!r}, which is no file")
    server = None if options.db else client.running(options, "control")
    with Bar("importing") as bar:
        name = _alone(options, bar) if server is None else _upload(server, options.file, bar)
    show_json({"run": name}) if options.json else print(f"run {safe(name)} was imported")
    return 0


def _upload(server: client.Client, file: Path, bar: Bar) -> str:
    try:
        return str(server.upload("/api/import", file, bar.show)["run"])
    finally:
        server.close()


def _alone(options: argparse.Namespace, bar: Bar) -> str:
    base = home.home(options.directory)
    try:
        with service.locked(base):
            return import_alone(options.db or base / "trainvitals.db", options.file, time.time(), bar.show)
    except ServerError as error:
        raise Failure(str(error)) from error
