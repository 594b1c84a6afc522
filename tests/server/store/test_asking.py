"""Questions about a run: every point is a row, told apart where it is not finite; nothing but reading is possible."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kept import contents, tell, values_at
from served import Served
from trainvitals_server.store.asking import Desk, QuestionError
from trainvitals_server.store.database import open_reading

MOST = 5.0  # seconds


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with compacted and hot frames, told by two producers."""
    folder = tmp_path_factory.mktemp("asked")
    with Served(folder / "home") as served:
        tell(served, "r1", frames=400)
        tell(served, "r1", frames=100, start=300, state="failed")
        tell(served, "r2", frames=10)
    return folder / "home" / "trainvitals.db"


@pytest.fixture
def desk(database: Path) -> Iterator[Desk]:
    """Where questions about the first run are asked."""
    with closing(open_reading(database)) as connection:
        connection.execute("BEGIN")
        with closing(Desk(connection, "r1")) as desk:
            yield desk


def ask(desk: Desk, sql: str) -> list[tuple[Any, ...]]:
    return list(desk.ask(sql, MOST)[1])


def test_every_point_is_a_row_with_its_class(desk: Desk, database: Path) -> None:
    """As many as were told, none twice, by the newest producer that tells a step; absent is not there."""
    told = contents(database, "r1")["points"]
    rows = ask(desk, "SELECT rank, layer, kind, stat, step, value, class FROM points")
    assert len(rows) == len(told)
    for *key, value, kind in rows:
        number = float(told[tuple(key)])
        expected = "finite" if math.isfinite(number) else {math.inf: "inf", -math.inf: "-inf"}.get(number, "nan")
        assert kind == expected
        assert value is None if kind == "nan" else value == number
    loss = dict(ask(desk, "SELECT step, value FROM points WHERE stat = 'loss' AND step BETWEEN 306 AND 310"))
    assert loss == {306: -math.inf, 307: None, 308: math.inf, 310: pytest.approx(values_at(10)[0])}


def test_points_join_points_each_read_once(desk: Desk) -> None:
    """Conditions reach the view before values are read; a join gets an index."""
    sql = (
        "SELECT a.step, a.value, b.value FROM points a JOIN points b USING (step)"
        " WHERE a.stat = 'loss' AND b.stat = 'grad_norm' AND a.class = 'finite'"
    )
    started = time.monotonic()
    rows = ask(desk, sql)
    assert time.monotonic() - started < MOST
    assert len(rows) == 400 - 2 * 4
    assert rows[0] == (0, 1.0, 0.0)
    assert ask(desk, "SELECT layer, count(*), max(step) FROM points GROUP BY layer ORDER BY layer") == [
        ("", 398, 399),
        ("a", 400, 399),
        ("b.c", 400, 399),
    ]


def test_events_and_alerts_are_there_with_their_packed_columns_as_json(desk: Desk) -> None:
    """What the views in the file must leave out."""
    rows = ask(desk, "SELECT step, json_extract(data, '$.reason') FROM events WHERE type = 'gap' ORDER BY step")
    assert rows == [(50, "disk"), (350, "disk")]
    assert ("a",) in ask(desk, "SELECT layer FROM alerts WHERE text <> ''")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DELETE FROM series", "only reads"),
        ("UPDATE pieces SET layout = 1", "only reads"),
        ("CREATE TABLE x (y)", "only reads"),
        ("CREATE TEMP TABLE x (y)", "only reads"),
        ("DROP VIEW points", "only reads"),
        ("ATTACH 'x.db' AS x", "only reads"),
        ("VACUUM INTO 'x.db'", "only reads|cannot be answered"),
        ("PRAGMA query_only = OFF", "only reads"),
        ("SELECT * FROM pragma_database_list", "only reads"),
        ("SELECT load_extension('x')", "only reads"),
        ("SELECT writefile('x', 'y')", "no such function|only reads"),
        ("BEGIN", "only reads"),
        ("SELECT 1; DROP VIEW points", "one statement"),
        ("", "expected a SELECT"),
        ("-- nothing", "expected a SELECT"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM runs", "no such table"),
        ("SELECT zeroblob(100000000)", "too big"),
        ("SELECT hex(zeroblob(16000000))", "too big|memory"),
        ("SELECT value_at(0, 1, 1000000)", "cannot be answered"),
        ("SELECT value_at(99, 'x', NULL)", "cannot be answered"),
        ("SELECT " + "(" * 1000 + "1" + ")" * 1000, "cannot be answered"),
        ("SELECT '" + "x" * 200_000 + "'", "cannot be answered"),
    ],
)
def test_whatever_does_not_only_read_is_refused(desk: Desk, sql: str, reason: str, tmp_path: Path) -> None:
    """In one line; the desk goes on."""
    with pytest.raises(QuestionError, match=reason) as caught:
        ask(desk, sql)
    assert len(str(caught.value).splitlines()) == 1
    assert ask(desk, "SELECT count(*) FROM series") == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM points a, points b, points c WHERE a.value < b.value + c.value",
        "WITH RECURSIVE t (i, x) AS (SELECT 1, zeroblob(1000000) UNION ALL SELECT i + 1, randomblob(1000000) FROM t)"
        " SELECT i FROM t ORDER BY x",
        "WITH RECURSIVE t (x) AS (SELECT 'a' UNION ALL SELECT x || x FROM t LIMIT 60) SELECT max(length(x)) FROM t",
    ],
)
def test_a_question_without_end_is_ended(desk: Desk, sql: str) -> None:
    """At its time limit, or sooner at another one."""
    started = time.monotonic()
    with pytest.raises(QuestionError):
        list(desk.ask(sql, 0.3)[1])
    assert time.monotonic() - started < 3


def test_the_database_is_not_changed_by_any_of_it(database: Path, desk: Desk) -> None:
    """The connection it is read by could not, either."""
    before = contents(database, "r1")
    ask(desk, "SELECT max(value) FROM points")
    assert contents(database, "r1") == before
