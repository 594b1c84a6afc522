"""Write a run into one file, to be carried away.

The file is a SQLite database of that run alone: `trainvitals replay FILE` opens it anywhere, `trainvitals import FILE`
takes it into another server. It holds no tokens and no audit. A file that is there is never replaced.
"""

import argparse
from functools import partial
from pathlib import Path

from trainvitals.storage.atomic import write_atomically
from trainvitals_server.cli import client, place
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import ServerError
from trainvitals_server.store.database import ReadError
from trainvitals_server.store.parcel import write_parcel


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where to."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("file", metavar="FILE", type=Path, help="the file; must not be there yet")
    parser.add_argument("--db", type=Path, metavar="DB", help="a database file (default: that of the server)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """From a server elsewhere over its interface, from one on this machine out of its database."""
    if options.file.exists():
        raise Failure(f"expected the name of a file that is not there yet, got {str(options.file)!r}")
    remote = None if options.db else client.remote(options)
    with Bar("exporting") as bar:
        name = _copy(options, bar) if remote is None else _download(remote, options, bar)
    size = options.file.stat().st_size
    if options.json:
        show_json({"run": name, "file": str(options.file), "bytes": size})
    else:
        print(f"{safe(options.file)}: run {safe(name)}, {size / 1e6:,.1f} MB")
    return 0


def _copy(options: argparse.Namespace, bar: Bar) -> str:
    database = place.find(options)
    name = place.resolve(database, options.target)
    try:
        write_parcel(database, name, options.file, bar.show)
    except (ReadError, ServerError) as error:
        raise Failure(f"run {name} cannot be exported, and nothing was kept: {error}") from error
    return name


def _download(server: client.Client, options: argparse.Namespace, bar: Bar) -> str:
    try:
        name = client.resolve(server, options.target)
        write_atomically(options.file, partial(server.download, f"/api/runs/{name}/export", progress=bar.show))
    finally:
        server.close()
    return name
