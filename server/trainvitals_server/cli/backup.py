"""Copy the database into one file, while the server goes on.

The copy is one consistent state of all runs, tokens aside. It can be served (`serve --db FILE`) or put back in the
database's place while no server runs. Run this on the machine of the server. A file that is there is never replaced.
"""

import argparse
from pathlib import Path

from trainvitals_server.cli import place
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe, show_json
from trainvitals_server.errors import SchemaError
from trainvitals_server.store.backup import back_up
from trainvitals_server.store.database import ReadError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the copy; must not be there yet")
    parser.add_argument("--json", action="store_true", help="print JSON")
    place.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Copy."""
    source = place.find(options)
    try:
        with Bar("copying") as bar:
            size = back_up(source, options.file, bar.show)
    except (ReadError, SchemaError) as error:
        raise Failure(f"{source} could not be copied, and nothing was kept: {error}") from error
    if options.json:
        show_json({"file": str(options.file), "bytes": size})
    else:
        print(f"{safe(options.file)}: {size / 1e6:,.1f} MB")
    return 0
