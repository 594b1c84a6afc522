"""Look a database over: its pages, its rows, and whether every run can be read.

What its tables say of one another (how far frames are compacted, how many there are) is compared with the rows. It
may be in use meanwhile. Exit code: 0 all is well, 1 something is not as it should be (each on a line of its own).
"""

import argparse

from trainvitals_server.cli import place
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import SchemaError
from trainvitals_server.store.checking import check
from trainvitals_server.store.database import ReadError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which database."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    place.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Look."""
    path = place.find(options)
    try:
        with Bar("checking") as bar:
            found = check(path, bar.show)
    except (ReadError, SchemaError) as error:
        raise Failure(f"{path} cannot be read: {error}") from error
    if options.json:
        show_json({"database": str(path), "runs": found.runs, "problems": found.problems})
    else:
        runs = f"{found.runs} run{'s' if found.runs != 1 else ''}"
        print("\n".join(map(safe, found.problems)) or f"{safe(path)}: {runs}, all is well")
    return 1 if found.problems else 0
