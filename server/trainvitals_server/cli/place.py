"""Which database file a verb works on, where it needs the file itself and not the server: the one named, else that of
the running server, else the one in the per-user directory."""

import argparse
from contextlib import closing
from pathlib import Path

from trainvitals import home
from trainvitals_server.cli.client import choose
from trainvitals_server.cli.failure import Failure
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.store import runs
from trainvitals_server.store.database import ReadError, make_current, open_reading


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that reads the file."""
    where = parser.add_argument_group("which database")
    where.add_argument("--db", type=Path, metavar="FILE", help="the database (default: that of the local server)")
    where.add_argument("--directory", type=Path, help="the per-user directory (default: TRAINVITALS_DIR)")


def resolve(path: Path, wanted: str) -> str:
    """The id of the run with this id, name, or unambiguous beginning of either. Raises `Failure`."""
    try:
        make_current(path)
        with closing(open_reading(path)) as connection:
            return choose(runs.names(connection), wanted)
    except (ReadError, StoreBusyError) as error:
        raise Failure(f"{path} cannot be read: {error}") from error


def find(options: argparse.Namespace) -> Path:
    """The file. Raises `Failure` where there is none."""
    base = home.home(options.directory)
    server = home.read_server_file(base)
    path: Path = options.db or Path(server.database if server and server.database else base / "trainvitals.db")
    if not path.is_file():
        raise Failure(f"expected a database, got {str(path)!r}, which is no file")
    return path
