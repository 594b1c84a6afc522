"""Who owns a spool: one at a time, and nobody once its process has ended, however it ended."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spools import append, identity, left, notice
from trainvitals.delivery import lock as lock_module
from trainvitals.delivery.lock import claim
from trainvitals.delivery.remains import take
from trainvitals.delivery.spool import Spool

OWNER = r"""
import os, sys, time
from pathlib import Path
from spools import append, identity, notice
from trainvitals.delivery.spool import Spool
spool = Spool(Path(sys.argv[1]), identity())
append(spool, notice(0))
if len(sys.argv) > 2 and os.fork() == 0:
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(30)
os.write(1, b"ready\n")
time.sleep(30)
"""


def start(path: Path, *arguments: str) -> "subprocess.Popen[str]":
    support = Path(__file__).parents[2] / "support"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path), *arguments], stdout=subprocess.PIPE, text=True, cwd=support
    )
    return owner


def test_a_living_owner_cannot_be_robbed_and_a_killed_one_can(tmp_path: Path) -> None:
    """The kernel lets go for it."""
    path = tmp_path / "spool/r/p"
    with start(path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        assert take(path) is None
        owner.kill()
        owner.wait(60)
        remains = take(path)
        assert remains is not None
        remains.release()


def test_a_worker_that_outlives_its_trainer_does_not_hold_the_spool(tmp_path: Path) -> None:
    """It was forked with everything the trainer had open."""
    path = tmp_path / "spool/r/p"
    with start(path, "fork") as owner:
        assert owner.stdout is not None
        said = [owner.stdout.readline().strip() for _ in range(2)]
        worker = int(next(word for word in said if word != "ready"))
        try:
            owner.kill()
            owner.wait(60)
            remains = take(path)
            assert remains is not None
            remains.release()
        finally:
            os.kill(worker, signal.SIGKILL)


def test_one_claims_it_at_a_time(tmp_path: Path) -> None:
    """The next one after it was let go of."""
    path = left(tmp_path, [notice(0)])
    first = take(path)
    assert first is not None
    assert take(path) is None
    first.release()
    second = take(path)
    assert second is not None
    second.release()


def test_what_was_delivered_meanwhile_cannot_be_claimed(tmp_path: Path) -> None:
    """Between finding a spool and locking it, another one may have removed it."""
    path = left(tmp_path, [notice(0)])
    first = take(path)
    assert first is not None
    first.remove()
    assert not path.exists()
    with pytest.raises(OSError, match="identity"):
        take(path)


@pytest.mark.parametrize("pid", ["own", "none"])
def test_a_spool_without_a_lock_is_left_to_a_process_that_runs(tmp_path: Path, pid: str) -> None:
    """As earlier versions wrote them: the process id decides, on this machine."""
    who = identity(host=socket.gethostname(), pid=os.getpid() if pid == "own" else 2**22 + 1)
    path = left(tmp_path, [notice(0)], who)
    (path / "lock").unlink()
    held = claim(path, who)
    assert (held is None) == (pid == "own")
    if held is not None:
        held.close()


def test_where_nothing_can_be_locked_silence_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another machine's process, whose id says nothing here."""
    monkeypatch.setattr(lock_module, "fcntl", None)
    path = left(tmp_path, [notice(0)], identity(host="elsewhere"))
    assert take(path) is None
    long_ago = path.stat().st_mtime - 2 * lock_module.SILENCE
    for segment in path.glob("*.seg"):
        os.utime(segment, (long_ago, long_ago))
    remains = take(path)
    assert remains is not None
    remains.release()


def test_a_closed_spool_is_let_go_of(tmp_path: Path) -> None:
    """Its process may go on for hours."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    append(spool, notice(0))
    spool.close()
    remains = take(spool.path)
    assert remains is not None
    remains.release()
