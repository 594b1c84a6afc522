"""docs/schema.md names every table, view and column, its code reads what is there, and the views read well."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kept import tell, values_at
from served import Served
from trainvitals_server.store.database import Database, open_reading
from trainvitals_server.store.parcel import write_parcel

DOCUMENT = (Path(__file__).parents[3] / "docs/schema.md").read_text()
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a run in it, partly compacted."""
    folder = tmp_path_factory.mktemp("documented")
    with Served(folder / "home") as served:
        tell(served, "r1", frames=400)
    write_parcel(folder / "home" / "trainvitals.db", "r1", folder / "r1.db", lambda done, total: None)
    return folder / "r1.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """For reading."""
    with closing(open_reading(path)) as opened:
        yield opened


def described() -> dict[str, set[str]]:
    """Table or view -> the words in code style of its paragraph or line."""
    found = {}
    for text in re.split(r"\n\n|\n(?=\|)", DOCUMENT):
        name = re.match(r"\*\*(\w+)\*\*:|\| `(v_\w+)` \|", text)
        if name:
            found[name[1] or name[2]] = set(re.findall(r"`(\w+)`", text))
    return found


def test_every_table_view_and_column_is_described(tmp_path: Path) -> None:
    """A migration that adds one must say what it is."""
    said = described()
    with closing(Database(tmp_path / "a.db").writer()) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        for name in (row[0] for row in rows if not row[0].startswith(("sqlite_", "_sqlite"))):
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            assert name in said, f"table {name} is not described"
            assert columns <= said[name], f"{name}: {columns - said[name]} are not described"


def test_the_code_reads_the_points_of_a_series(path: Path, connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Compacted or hot, whatever is there."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(code.strip().splitlines()) < 25
    program = tmp_path / "points.py"
    program.write_text(code)
    series = connection.execute("SELECT id FROM v_series WHERE stat = 'grad_norm'").fetchone()[0]
    command = [sys.executable, str(program), str(path), str(series)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    plain = re.sub(r"np\.\w+", "", done.stdout)
    printed = [tuple(map(float, re.findall(r"\d+\.?\d*", line))) for line in plain.splitlines()]
    assert printed == [(step, values_at(step)[2]) for step in range(400)]
    assert connection.execute("SELECT count(*) FROM spans").fetchone()[0] > 0


def test_views_read_as_text(connection: sqlite3.Connection) -> None:
    """Times as ISO-8601, every column of a layout with its series."""
    run = connection.execute("SELECT id, state, created, ended FROM v_runs").fetchone()
    assert tuple(run)[:2] == ("r1", "finished")
    assert all(ISO.fullmatch(time) for time in tuple(run)[2:])
    rows = connection.execute('SELECT "column", stat FROM v_layouts ORDER BY 1').fetchall()
    assert [tuple(row) for row in rows] == [(0, "loss"), (1, "nonfinite_channels"), (2, "grad_norm")]
    event = connection.execute("SELECT producer, type, layer, time FROM v_events ORDER BY id").fetchone()
    assert tuple(event) == ("r1-p0", "nonfinite", "a", "1970-01-12T13:46:40.000Z")
    assert {row[0] for row in connection.execute("SELECT rule FROM v_alerts")} >= {"norm_nonfinite"}
    for view in ("v_producers", "v_series", "v_commands", "v_audit"):
        connection.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608


def test_ids_in_layouts_are_read_up_to_forty_bits(tmp_path: Path) -> None:
    """And what is not declared is NULL."""
    with closing(Database(tmp_path / "a.db").writer()) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        big = 0xAB_CDEF_0123
        connection.execute("INSERT INTO series VALUES (?, 'r', 'deep', 'norm', 'x', 0)", (big,))
        connection.execute(
            "INSERT INTO producers (id, run, producer, rank, world_size, host, pid, started, allow)"
            " VALUES (1, 'r', 'p', 0, 1, '', 0, 0, x'90')"
        )
        columns = big.to_bytes(8, "little") + b"\xff" * 8
        connection.execute("INSERT INTO layouts VALUES (1, 1, 0, 2, ?, x'90')", (columns,))
        rows = connection.execute("SELECT series, layer FROM v_layouts ORDER BY 'column'").fetchall()
        assert [tuple(row) for row in rows] == [(big, "deep"), (None, None)]
