"""Ask a run anything, in SQL that only reads.

Tables: points(step, time, rank, layer, kind, stat, value, class), series(id, layer, kind, stat, place),
events(id, step, time, rank, producer, type, layer, data), alerts(id, rank, rule, layer, severity, status, first_step,
last_step, count, text). Times are Unix seconds, data is JSON. A NaN is NULL in SQL, so class says what a value is:
finite, nan, inf, -inf. Conditions on layer, kind, stat and rank are cheap, --from and --to narrow long runs. For
example:

  trainvitals query RUN --sql "select step, value from points where stat = 'loss' and class <> 'finite'"
"""

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trainvitals_server.cli import client, place, tables
from trainvitals_server.cli.bar import Bar
from trainvitals_server.cli.failure import Failure, warn
from trainvitals_server.cli.text import show_json, table
from trainvitals_server.errors import SchemaError
from trainvitals_server.store.asking import Desk, QuestionError, spelled
from trainvitals_server.store.database import ReadError, open_reading

SHOWN = 1000  # rows of a table on a terminal
SECONDS = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The question, and the form of the answer."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--sql", required=True, help="one SELECT")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per row")
    form.add_argument("--csv", type=Path, metavar="FILE", help="into a CSV file; - for standard output")
    form.add_argument("--parquet", type=Path, metavar="FILE", help="into a Parquet file (needs trainvitals[parquet])")
    parser.add_argument("--from", dest="first", type=int, metavar="STEP", help="only points from this step on")
    parser.add_argument("--to", dest="last", type=int, metavar="STEP", help="only points up to this step")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take (default: %(default)g)")
    parser.add_argument("--db", type=Path, metavar="DB", help="a database, or a file of `trainvitals export`")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Answer."""
    if not options.seconds > 0:  # nan neither
        raise Failure(f"--seconds: expected more than 0, got {options.seconds:g}", code=2)
    for file in filter(None, (options.csv, options.parquet)):
        if file.exists():
            raise Failure(f"expected the name of a file that is not there yet, got {str(file)!r}")
    try:
        with asked(options) as (database, name), closing(open_reading(database)) as connection:
            connection.execute("BEGIN")
            with closing(Desk(connection, name, options.first, options.last)) as desk:
                answer(options, *desk.ask(options.sql, options.seconds))
    except (QuestionError, ReadError, SchemaError) as error:
        raise Failure(str(error)) from error
    return 0


@contextmanager
def asked(options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """The file to look into, and the run's id: of a server elsewhere, the run is fetched as a file first."""
    remote = None if options.db else client.remote(options)
    if remote is None:
        database = place.find(options)
        yield database, place.resolve(database, options.target)
        return
    with TemporaryDirectory(prefix="trainvitals-query-") as folder:
        path = Path(folder) / "run.db"
        with closing(remote), Bar("fetching") as bar, path.open("xb") as file:
            name = client.resolve(remote, options.target)
            remote.download(f"/api/runs/{name}/export", file, bar.show)
        yield path, name


def answer(options: argparse.Namespace, names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Print the rows, or write them."""
    if options.parquet:
        tables.write_parquet(options.parquet, names, rows)
    elif options.csv:
        tables.write_csv(options.csv, names, rows)
    elif options.json:
        for row in rows:
            show_json(dict(zip(names, spelled(row), strict=True)))
    else:
        shown = list(islice(rows, SHOWN))
        print(table(names, [[_cell(value) for value in spelled(row)] for row in shown]))
        if next(rows, None) is not None:
            warn(f"only the first {SHOWN} rows are shown; --csv FILE writes all")


def _cell(value: Any) -> Any:
    """A number as it is: a step is no amount, and a value is not rounded."""
    return value if value is None or isinstance(value, str) else repr(value)
