"""`trainvitals diagnose`: what it prints, and its exit codes."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from checkpoints import broken_net
from loops import small_net
from trainvitals_server.cli import main
from trainvitals_server.cli.diagnose import Bar


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    torch.save({"model": broken_net().state_dict()}, tmp_path / "wavessm_x.pth")
    return tmp_path / "wavessm_x.pth"


def test_corrupt_statistics_are_said_to_be_fixable(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row per group, a line per tensor, and what to do."""
    assert main(["diagnose", str(broken)]) == 1
    out = capsys.readouterr().out
    assert "statistics" in out
    assert "2 corrupted" in out
    assert "1.running_mean: 1 NaN of 8, first at index [2]" in out
    assert out.rstrip().endswith(f"fixable. Run: trainvitals diagnose {broken} --fix")


def test_a_fix_says_what_it_changed(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of the user's own script; the copy is healthy, and again nothing to fix."""
    assert main(["diagnose", str(broken), "--fix"]) == 0
    out = capsys.readouterr().out
    fixed = broken.with_name("wavessm_x_FIXED.pth")
    assert "[SANITIZE] Resetting corrupted running_mean: 1.running_mean\n" in out
    assert f"Sanitized 2 BatchNorm statistics: {fixed}\n" in out
    assert main(["diagnose", str(fixed), "--fix"]) == 0
    assert "Nothing to repair" in capsys.readouterr().out


def test_corrupt_weights_point_to_the_best_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is one; with a fix it is plain that they are still corrupt."""
    model = broken_net()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    torch.save(model.state_dict(), tmp_path / "x.pth")
    assert main(["diagnose", str(tmp_path / "x.pth")]) == 2
    assert "revert to an earlier checkpoint" in capsys.readouterr().out
    torch.save(small_net().state_dict(), tmp_path / "x_best.pth")
    assert main(["diagnose", str(tmp_path / "x.pth"), "--fix"]) == 2
    out = capsys.readouterr().out
    assert "CORRUPTED WEIGHTS: this is more serious, and still there" in out
    assert f"use {tmp_path / 'x_best.pth'}" in out


def test_json_is_one_object(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything in it."""
    assert main(["diagnose", str(broken), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["groups"]["statistics"] == {"tensors": 4, "elements": 32, "nan": 1, "inf": 1, "negative": 0}
    assert [issue["key"] for issue in answer["issues"]] == ["1.running_mean", "4.running_var"]
    assert answer["fixed"] is None


def test_a_refusal_and_a_wrong_command_line_are_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 would say that weights are corrupt."""
    assert main(["diagnose", str(tmp_path / "gone.pth")]) == 3
    assert main(["diagnose", str(tmp_path / "gone.pth"), "--fxi"]) == 3
    assert main(["diagnose", "x" * 300]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"trainvitals: {tmp_path / 'gone.pth'}: refused: expected a checkpoint, found no such file"
    assert len(lines) == 3


def test_a_crashed_reader_is_4(
    broken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told in one line."""
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")  # no Python starts then
    assert main(["diagnose", str(broken)]) == 4
    assert "and no answer" in capsys.readouterr().err


def test_control_characters_in_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They could drive the terminal."""
    torch.save({"a\x1b[2J.running_mean": torch.tensor([float("nan")])}, tmp_path / "x.pth")
    assert main(["diagnose", str(tmp_path / "x.pth")]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_progress_is_shown_on_a_terminal_and_cleared(broken: Path) -> None:
    """And none in a pipe, as everywhere here."""
    code = (
        "import trainvitals_server.cli.diagnose as d; d.SHOW_AFTER = 0;"
        "from trainvitals_server.cli import main; import sys; sys.exit(main(['diagnose', sys.argv[1]]))"
    )
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        command = [sys.executable, "-c", code, broken]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, check=False)
        os.close(theirs)
        shown = terminal.read1()
    assert done.returncode == 1
    assert b"100%" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_no_bar_is_drawn_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is no terminal here."""
    bar = Bar()
    bar.show(1, 2)
    bar.clear()
    assert capsys.readouterr().err == ""
