"""The verbs that keep, delete and carry runs, against a real server and its files."""

import csv
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pyarrow import parquet

from child import child
from kept import contents, tell
from served import Served, until
from trainvitals_server.cli import main

Told = tuple[int, str, str]
Tell = Callable[..., Told]
HOSTILE = '=cmd("x")\x1b[2J'


@pytest.fixture
def served(private_home: Path) -> Iterator[Served]:
    """A server with two runs, one of a hostile name."""
    with Served(private_home) as server:
        tell(server, "r1", frames=100)
        with server.trainer("r2", name=HOSTILE) as trainer:
            trainer.hello()
        yield server


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run a verb in this process."""

    def say(verb: str, *arguments: object) -> Told:
        code = main([verb, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return say


def test_pin_and_unpin_are_shown(served: Served, say: Tell) -> None:
    """In `show` and in JSON."""
    assert say("pin", "r1") == (0, "run r1 is kept until `trainvitals unpin`\n", "")
    assert "finished, pinned" in say("runs")[1]
    assert "pinned     kept whatever --retain says" in say("show", "r1")[1]
    code, _, err = say("delete", "r1", "--yes")
    assert (code, "unpin it first" in err) == (1, True)
    assert json.loads(say("unpin", "r1", "--json")[1]) == {"run": "r1", "pinned": False}
    assert "pinned" not in say("show", "r1")[1]


def test_delete_wants_to_be_sure(served: Served, say: Tell) -> None:
    """Where nobody can be asked it needs --yes; under way --force."""
    code, out, err = say("delete", "r1")
    assert (code, out, "expected --yes" in err) == (2, "", True)
    code, _, err = say("delete", "r2", "--yes")
    assert (code, "force deletes it" in err) == (1, True)
    assert say("delete", "r2", "--yes", "--force")[:2] == (0, "run r2 was deleted\n")
    assert say("delete", "r1", "--yes", "--json")[0] == 0
    until(lambda: served.get("/api/storage")["being_deleted"] == 0)
    lines = say("storage")[1].splitlines()
    assert lines[0].startswith("database   0.")
    assert lines[1] == "kept       everything: no --retain was given"
    assert [line.split()[0] for line in lines[3:]] == ["DELETED", "r1", "r2"]
    assert "\x1b" not in "".join(lines)
    assert json.loads(say("storage", "--json")[1])["deleted"][0]["reason"] == "asked by control"
    assert served.get("/api/runs")["runs"] == []


@pytest.mark.parametrize(("answer", "left"), [("yes", 1), ("no", 2), ("", 2)])
def test_on_a_terminal_delete_asks(served: Served, answer: str, left: int) -> None:
    """Only a whole yes deletes."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trainvitals_server.cli", "delete", "r1"]
    with child(command, stdin=theirs, stderr=subprocess.PIPE) as asking:
        os.close(theirs)
        assert asking.stderr is not None
        os.write(ours, f"{answer}\n".encode())
        said = asking.stderr.read()
        assert asking.wait(20) == (0 if answer == "yes" else 1)
    os.close(ours)
    assert "Delete run r1 (r1, finished, 99 steps) for good? Type yes:" in said
    assert len(served.get("/api/runs")["runs"]) == left


def test_a_run_goes_out_and_comes_in_again(served: Served, say: Tell, tmp_path: Path) -> None:
    """By export, delete and import, through the server and without one, and back with the same points."""
    before = contents(served.service.settings.database, "r1")
    file = tmp_path / "r1.db"
    assert json.loads(say("export", "r1", file, "--json")[1])["bytes"] == file.stat().st_size
    code, _, err = say("export", "r1", file)
    assert (code, "not there yet" in err) == (1, True)
    code, _, err = say("import", file)
    assert (code, "run 'r1' is there already; nothing was changed" in err) == (1, True)
    assert say("delete", "r1", "--yes")[0] == 0
    until(lambda: served.get("/api/storage")["being_deleted"] == 0)
    assert say("import", file) == (0, "run r1 was imported\n", "")
    assert contents(served.service.settings.database, "r1") == before
    assert say("query", "r1", "--db", file, "--sql", "select count(*) from points")[1].split()[-1] == "299"
    assert say("check", "--db", file)[0] == 0
    other = tmp_path / "other"
    assert say("import", file, "--directory", other)[:2] == (0, "run r1 was imported\n")
    assert contents(other / "trainvitals.db", "r1") == before
    code, _, err = say("import", tmp_path / "nothing.db")
    assert (code, "which is no file" in err) == (1, True)


def test_a_server_elsewhere_is_asked_over_its_interface(
    served: Served, say: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --server and --token: export, query and import need no file of that machine."""
    monkeypatch.setenv("TRAINVITALS_DIR", str(tmp_path / "elsewhere"))
    before = contents(served.service.settings.database, "r1")
    where = ["--server", served.url, "--token", served.headers("control")["Authorization"].split()[1]]
    assert say("export", "r1", tmp_path / "r1.db", *where)[0] == 0
    assert contents(tmp_path / "r1.db", "r1") == before
    assert say("query", "r1", "--sql", "select count(*) as n from points", "--json", *where)[1] == '{"n":299}\n'
    code, _, err = say("import", tmp_path / "r1.db", *where)
    assert (code, "409" in err) == (1, True)
    code, _, err = say("export", "r9", tmp_path / "r9.db", *where)
    assert (code, len(err.splitlines()), list(tmp_path.glob("*r9*"))) == (1, 1, [])


def test_backup_and_check(served: Served, say: Tell, tmp_path: Path) -> None:
    """Of a server that runs; the copy is as sound as the original."""
    copy = tmp_path / "copy.db"
    assert json.loads(say("backup", copy, "--json")[1]) == {"file": str(copy), "bytes": copy.stat().st_size}
    code, _, err = say("backup", copy)
    assert (code, "not there yet" in err) == (1, True)
    assert say("check") == (0, f"{served.service.settings.database}: 2 runs, all is well\n", "")
    assert json.loads(say("check", "--db", copy, "--json")[1])["problems"] == []
    copy.write_bytes(copy.read_bytes()[:8192])
    assert say("check", "--db", copy)[0] == 1
    (tmp_path / "text.db").write_text("no database" * 100)
    for verb in (["check"], ["backup", tmp_path / "c.db"], ["query", "r1", "--sql", "select 1"]):
        code, out, err = say(*verb, "--db", tmp_path / "text.db")
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "file is not a database" in err


@pytest.mark.parametrize("table", ["", "CREATE TABLE diary (text)"])
def test_a_database_of_something_else_is_left_alone(private_home: Path, say: Tell, tmp_path: Path, table: str) -> None:
    """No verb makes tables of ours in it, neither one that reads nor the server; an empty file is none of ours yet."""
    other, copy = tmp_path / "other.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute(table)
    other.touch()
    before = other.read_bytes()
    verbs = [["check"], ["backup", copy], ["query", "r1", "--sql", "select 1"], ["export", "r1", copy]]
    verbs += [["serve", "--port", "0"]] if table else []
    for verb in verbs:
        code, out, err = say(*verb, "--db", other)
        assert (code != 0, out, len(err.splitlines())) == (True, "", 1), verb
        assert "expected a database of trainvitals, got" in err
        assert other.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == ["other.db"]


def test_query_prints_a_table_json_csv_and_parquet(served: Served, say: Tell, tmp_path: Path) -> None:
    """The same rows; nothing in a cell is executed by a spreadsheet or a terminal."""
    sql = "select step, value, class from points where stat = 'loss' and step between 6 and 10"
    code, out, err = say("query", "r1", "--sql", sql)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[:3] == [["step", "value", "class"], ["6", "-Infinity", "-inf"], ["7", "-", "nan"]]
    objects = [json.loads(line) for line in say("query", "r1", "--sql", sql, "--json")[1].splitlines()]
    assert objects[0] == {"step": 6, "value": "-Infinity", "class": "-inf"}
    assert objects[1] == {"step": 7, "value": None, "class": "nan"}
    assert say("query", "r1", "--sql", sql, "--csv", "-")[1].splitlines()[:3] == [
        "step,value,class",
        "6,-Infinity,-inf",
        "7,,nan",
    ]
    assert say("query", "r1", "--sql", sql, "--parquet", tmp_path / "x.parquet")[0] == 0
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column("step").to_pylist() == [6, 7, 8, 10]
    assert table.column("value").to_pylist()[:3] == [-float("inf"), None, float("inf")]
    narrow = ["--from", "8", "--to", "9", "--json"]
    assert say("query", "r1", "--sql", "select max(step) as n from points", *narrow)[1] == '{"n":9}\n'
    cells = """select '=cmd("x")' as "@a", '-1+1' as b, -9e999 as c, char(27) || '[2J' as d, -5 as e"""
    assert say("query", "r1", "--sql", cells, "--csv", tmp_path / "x.csv")[0] == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["'@a", "b", "c", "d", "e"],
            ['\'=cmd("x")', "'-1+1", "-Infinity", "\x1b[2J", "-5"],
        ]
    assert "\x1b" not in say("query", "r1", "--sql", cells)[1]
    assert say("query", "r1", "--sql", cells, "--csv", "-")[1].splitlines()[0] == "'@a,b,c,d,e"
    many = "with recursive t(i) as (select 1 union all select i + 1 from t limit 5000) select i from t"
    code, out, err = say("query", "r1", "--sql", many)
    assert (len(out.splitlines()), "only the first 1000 rows" in err) == (1001, True)
    for seconds in ("nan", "0", "-1"):
        code, out, err = say("query", "r1", "--sql", "select 1", f"--seconds={seconds}")
        assert (code, out, "--seconds: expected more than 0" in err) == (2, "", True)
    code, out, err = say("query", "r1", "--sql", "drop view points")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    code, _, err = say("query", "r1", "--sql", "select 1 as a, 2 as a", "--parquet", tmp_path / "y.parquet")
    assert (code, "different names" in err, (tmp_path / "y.parquet").exists()) == (1, True, False)


def test_parquet_without_its_library_is_explained(served: Served, tmp_path: Path) -> None:
    """As on a machine without the extra."""
    words = ["query", "r1", "--sql", "select 1", "--parquet", str(tmp_path / "x.parquet")]
    call = f"from trainvitals_server.cli import main; sys.exit(main({words}))"
    code = f"import sys; sys.modules['pyarrow'] = None; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    said = "trainvitals: --parquet needs pyarrow, which is not installed; pip install 'trainvitals[parquet]'"
    assert done.stderr.splitlines() == [said]


def test_replay_opens_a_file_for_reading_and_leaves_nothing(
    served: Served, say: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of its own, by a link that may only read; it ends with Ctrl-C."""
    say("export", "r1", tmp_path / "r1.db")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TRAINVITALS_DIR", str(tmp_path / "nobody"))
    command = [sys.executable, "-m", "trainvitals_server.cli", "replay", str(tmp_path / "r1.db"), "--print"]
    with child(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        timer = threading.Timer(30, program.kill)
        timer.start()
        address = program.stdout.readline().strip()
        timer.cancel()
        link, _, place = address.partition("#")
        assert place == "/runs/r1"
        with httpx.Client(base_url=link.partition("/signin")[0], trust_env=False) as browser:
            assert browser.get(link).status_code == 303
            run = browser.get("/api/runs/r1").json()
            assert (run["state"], run["outcome"], run["step"]) == ("imported", "finished", 99)
            origin = {"Origin": str(browser.base_url).rstrip("/")}
            assert browser.delete("/api/runs/r1", headers=origin).status_code == 403
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 0
    assert list(tmp_path.glob("trainvitals-replay-*")) == []


def test_replay_of_a_run_opens_the_running_servers_page(served: Served, say: Tell) -> None:
    """As `open` does."""
    code, out, _ = say("replay", "r1", "--print")
    assert code == 0
    assert out.strip().endswith("#/runs/r1")
    code, _, err = say("replay", "missing.db")
    assert (code, "which is no file" in err) == (1, True)
    broken = served.directory / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    code, _, err = say("replay", broken, "--print")
    assert (code, len(err.splitlines()), "was refused, and nothing was changed" in err) == (1, 1, True)
