"""A file is whole or not there, whoever dies while writing it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainvitals.storage.atomic import write_atomically

SUPPORT = Path(__file__).parents[2] / "support"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_saver_killed_at_any_byte_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    """64 deaths: at random moments by SIGKILL, and at bytes spread over the file by the kernel; the best one too."""
    code = [sys.executable, str(SUPPORT / "killed_saver.py"), str(tmp_path), "3"]
    path = os.pathsep.join([str(SUPPORT), *sys.path])
    done = subprocess.run(
        code, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["unfinished"] >= 24, "at least those killed at a byte died in the middle"
    assert found["left"] == [], "the last save removed what the dead had left"


def test_a_live_writers_temporary_file_is_not_taken_for_a_dead_ones(tmp_path: Path) -> None:
    """Two writers of one path: both end well, and the later rename wins."""
    path = tmp_path / "x.pth"

    def write_slowly(file: object) -> None:
        write_atomically(path, lambda inner: inner.write(b"in between"))
        assert path.read_bytes() == b"in between"
        file.write(b"at last")  # type: ignore[attr-defined]

    write_atomically(path, write_slowly)
    assert path.read_bytes() == b"at last"
    assert names(tmp_path) == ["x.pth"]


def test_what_others_left_is_not_removed(tmp_path: Path) -> None:
    """Only abandoned temporary files of the same path."""
    for name in (".x.pth.0123.tmp", ".y.pth.0123.tmp", "x.pth.tmp", ".x.pth.unhealthy"):
        (tmp_path / name).write_text("")
    write_atomically(tmp_path / "x.pth", lambda file: file.write(b"1"))
    assert names(tmp_path) == [".x.pth.unhealthy", ".y.pth.0123.tmp", "x.pth", "x.pth.tmp"]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()], ids=["disk", "ctrl-c"])
def test_whatever_ends_the_writing_leaves_the_old_content(tmp_path: Path, error: BaseException) -> None:
    """And no temporary file."""
    path = tmp_path / "x.pth"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.pth"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127], ids=["ascii", "two bytes each"])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    """The temporary file's name is not longer."""
    write_atomically(tmp_path / name, lambda file: file.write(b"1"))
    assert names(tmp_path) == [name]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "latest.pth").symlink_to("step_7.pth")
    write_atomically(tmp_path / "latest.pth", lambda file: file.write(b"1"))
    assert (tmp_path / "latest.pth").is_symlink()
    assert (tmp_path / "step_7.pth").read_bytes() == b"1"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """A checkpoint is an ordinary file."""
    plain = tmp_path / "plain"
    plain.write_text("")
    write_atomically(tmp_path / "x.pth", lambda file: file.write(b"1"))
    assert (tmp_path / "x.pth").stat().st_mode == plain.stat().st_mode
