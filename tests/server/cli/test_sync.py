"""`sync`: spools carried from elsewhere, delivered by hand."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from served import Served
from spools import append, frame, identity, layout, left, notice
from trainvitals import wire
from trainvitals.delivery import recovery
from trainvitals.delivery.spool import Spool
from trainvitals_server.cli import main

RECORDS = [layout(), *[frame(step) for step in range(20)], wire.Lifecycle(step=9, time=1e6, state="finished")]
Sync = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(private_home: Path) -> Iterator[Served]:
    """A server of its own, which the verb finds in the per-user directory."""
    with Served(private_home) as server:
        yield server


@pytest.fixture
def sync(here: Served, capsys: pytest.CaptureFixture[str]) -> Sync:
    """Run the verb against the server: its exit code, and what it printed."""

    def sync(*arguments: object) -> tuple[int, str, str]:
        code = main(["sync", *map(str, arguments), "--directory", str(here.directory)])
        out, err = capsys.readouterr()
        return code, out, err

    return sync


def test_spools_from_elsewhere_are_delivered_and_stay(sync: Sync, here: Served, tmp_path: Path) -> None:
    """The second time there is nothing to send."""
    left(tmp_path / "usb", RECORDS, identity("one"))
    left(tmp_path / "usb", RECORDS[:-1], identity("two"))
    code, out, err = sync(tmp_path / "usb", "--json")
    told = json.loads(out)
    assert (code, err, told["complete"]) == (0, "", True)
    by_run = {one["run"]: one for one in told["spools"]}
    assert [(by_run[run]["records"], by_run[run]["sent"], by_run[run]["known"]) for run in ("one", "two")] == [
        (22, 22, 0),
        (21, 21, 0),
    ]
    assert here.get("/api/runs/one")["state"] == "finished"
    code, out, _ = sync(tmp_path / "usb", "--json")
    assert [(one["sent"], one["known"]) for one in json.loads(out)["spools"]] == [(0, 22), (0, 21)]
    assert code == 0


def test_a_folder_that_cannot_be_written_is_delivered_too(sync: Sync, here: Served, tmp_path: Path) -> None:
    """Its end is said all the same. (To the owner of this test's process nothing may be unwritable; then it is.)"""
    path = left(tmp_path / "usb", RECORDS[:-1])
    path.chmod(0o500)
    try:
        code, out, _ = sync(path, "--json")
    finally:
        path.chmod(0o700)
    assert code == 0
    assert json.loads(out)["spools"][0]["records"] == 21
    events = here.get("/api/runs/r/events", type="notice")["events"]
    assert [one["data"]["code"] for one in events if one["data"]["code"] == "orphaned"] == ["orphaned"]


def test_another_copy_of_a_killed_trainers_spool_brings_nobody_back(sync: Sync, here: Served, tmp_path: Path) -> None:
    """What the server has heard of its end is not said twice, and a delivery is no sign of life."""
    copy = shutil.copytree(left(tmp_path / "one", RECORDS[:-1]), tmp_path / "two/spool/r/p")
    assert sync(tmp_path / "one")[0] == 0
    before = here.get("/api/runs/r")
    assert before["state"] == "lost"
    for _ in range(2):
        code, out, _ = sync(copy, "--json")
        (one,) = json.loads(out)["spools"]
        assert (code, one["records"], one["sent"], one["known"], one["lost"]) == (0, 21, 0, 21, 0)
    after = here.get("/api/runs/r")
    assert (after["state"], after["reason"]) == ("lost", before["reason"])
    events = here.get("/api/runs/r/events", type="notice")["events"]
    assert [one["data"]["code"] for one in events] == ["orphaned"]


def test_what_a_trainer_left_does_not_make_a_lost_run_live(sync: Sync, here: Served, tmp_path: Path) -> None:
    """Its frames come from the disk of a process that is dead."""
    path = left(tmp_path / "one", RECORDS[:9])
    assert sync(shutil.copytree(path, tmp_path / "two"))[0] == 0
    left(tmp_path / "three", RECORDS[:-1])
    assert sync(tmp_path / "three")[0] == 0
    assert here.get("/api/runs/r")["step"] == 19
    events = here.get("/api/runs/r/events", type="notice")["events"]
    assert {one["data"]["code"] for one in events} == {"orphaned"}


def test_a_copy_of_a_living_trainers_spool_takes_nothing_from_it(
    sync: Sync, here: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that is here, nobody else speaks for it: its end has not come."""
    monkeypatch.setattr(recovery, "PATIENCE", 1.0)
    copy = left(tmp_path / "copy", RECORDS[:-1])
    with here.trainer(run="r", producer="p") as living:
        living.hello()
        living.store(*RECORDS[:-1])
        code, out, _ = sync(copy, "--json")
        (one,) = json.loads(out)["spools"]
        assert (code, one["outcome"], one["sent"]) == (1, "not delivered", 0)
        assert "expected the spool of a trainer that has ended" in one["reason"]
        living.store(RECORDS[-1])
    run = here.get("/api/runs/r")
    assert (run["state"], run["producers"][0]["committed"]) == ("finished", 21)
    assert sync(copy)[0] == 0


def test_a_copy_that_is_synced_while_its_trainer_is_away_costs_it_nothing(
    sync: Sync, here: Served, tmp_path: Path
) -> None:
    """The run is lost by what the copy tells, until the trainer is back and has more to say under the same numbers:
    then nothing of that was true, what was torn off the copy included."""
    copy = left(tmp_path / "copy", RECORDS[:9])
    (newest,) = copy.glob("*.seg")
    os.truncate(newest, newest.stat().st_size - 5)
    (copy / "journal").write_text('{"id": "c"}')
    code, out, _ = sync(copy, "--json")
    assert (code, json.loads(out)["spools"][0]["lost"]) == (0, 1)
    run = here.get("/api/runs/r")
    assert (run["state"], run["producers"][0]["committed"], run["producers"][0]["dropped"]) == ("lost", 7, 1)
    assert run["lost"]["records"] == 1
    assert "ended without a word" in run["reason"]
    with here.trainer(run="r", producer="p") as living:
        assert living.hello().committed == 7
        run = here.get("/api/runs/r")
        assert (run["state"], run["lost"]["records"]) == ("live", 0)
        living.store(*RECORDS[8:])
    run = here.get("/api/runs/r")
    assert (run["state"], run["step"], run["producers"][0]["dropped"]) == ("finished", 19, 0)
    told = [one["data"].get("code", one["type"]) for one in here.get("/api/runs/r/events")["events"]]
    assert "orphaned" not in told
    assert "gap" not in told
    assert sync(copy)[0] == 0
    assert here.get("/api/runs/r")["state"] == "finished"


def test_with_remove_what_was_delivered_is_deleted(sync: Sync, tmp_path: Path) -> None:
    """And only then."""
    path = left(tmp_path / "usb", RECORDS)
    code, out, _ = sync(tmp_path / "usb", "--remove")
    assert code == 0
    assert not path.exists()
    assert "1 of 1 spools are delivered" in out
    assert sync(tmp_path / "usb")[0] == 2


def test_a_living_trainer_is_left_alone(sync: Sync, tmp_path: Path) -> None:
    """It is said, and the exit code tells that not everything is there."""
    spool = Spool(tmp_path / "usb/spool/r/p", identity())
    append(spool, notice(0))
    code, out, _ = sync(tmp_path / "usb")
    assert code == 1
    assert "in use: its trainer lives and delivers it" in out
    spool.close()


def test_lost_and_refused_records_are_shown(sync: Sync, tmp_path: Path) -> None:
    """How many."""
    gap = wire.Gap(count=5, reason="r", since=1e6, until=1e6)
    path = left(tmp_path / "usb", [*RECORDS[:5], frame(3), gap, RECORDS[-1]])
    code, out, _ = sync(tmp_path / "usb", "--remove", "--json")
    (one,) = json.loads(out)["spools"]
    assert (code, one["lost"], one["quarantined"]) == (0, 5, 1)
    assert [file.name for file in path.iterdir()] == ["quarantine"]


def test_without_a_server_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    left(tmp_path / "usb", RECORDS)
    assert main(["sync", str(tmp_path / "usb")]) == 2
    assert capsys.readouterr().err == (
        "trainvitals: expected a server, got none: start `trainvitals serve`, or give --server\n"
    )


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is deleted."""
    path = left(tmp_path / "usb", RECORDS)
    code = main(["sync", str(tmp_path / "usb"), "--server", "http://127.0.0.1:9", "--token", "t", "--remove"])
    assert code == 1
    assert "not delivered: http://127.0.0.1:9 cannot be reached" in capsys.readouterr().out
    assert path.exists()


def test_a_wrong_token_is_named(here: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the trainer would."""
    left(tmp_path / "usb", RECORDS, committed=21)
    assert main(["sync", str(tmp_path / "usb"), "--server", here.url, "--token", "wrong", "--json"]) == 1
    out, err = capsys.readouterr()
    (one,) = json.loads(out)["spools"]
    assert err.startswith("trainvitals: expected everything to be delivered, got 0 of 1 spools; r: not delivered: ")
    assert err.count("\n") == 1
    assert "is the token right?" in one["reason"]
    assert (one["records"], one["sent"], one["known"]) == (22, 0, 0)


def test_an_identity_that_is_none_is_named(sync: Sync, tmp_path: Path) -> None:
    """A torn file, or somebody else's."""
    path = left(tmp_path / "usb", RECORDS)
    (path / "identity").write_bytes(b"junk")
    code, out, err = sync(tmp_path / "usb")
    assert code == 1
    assert f"unreadable: {path / 'identity'} tells no producer: " in out
    assert err.count("\n") == 1


def test_a_folder_without_spools_is_refused(sync: Sync, tmp_path: Path) -> None:
    """In one line."""
    code, _, err = sync(tmp_path)
    assert code == 2
    assert err.endswith("expected a folder of spools, got none in it\n")
