"""Disks that are full or broken: the server's, and the trainer's own."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from child import child
from fault_table import Row
from served import until
from small_disk import fill, may_mount, small_disk
from ward import Training, Ward

Enter = Callable[..., None]
SECONDS = 1.2
DISK = 24 << 20


@contextmanager
def full_mount(ward: Ward) -> Iterator[None]:
    """What is left of the file system is used up."""
    ballast = fill(ward.home)
    yield
    ballast.unlink()


@contextmanager
def full_pages(ward: Ward) -> Iterator[None]:
    """The database may have no page more."""
    control = ward.folder / "full"
    control.touch()
    yield
    control.unlink()


def ready(ward: Ward) -> int:
    """The status of `/readyz`."""
    return httpx.get(f"{ward.program.url}/readyz", timeout=5).status_code


@pytest.mark.chaos
def test_a_server_whose_disk_is_full(make_ward: Callable[..., Ward], enter: Enter, tmp_path: Path) -> None:
    """It says so, stores nothing, and takes everything once there is room again. The trainer's spool is elsewhere."""
    if not may_mount(tmp_path / "disk"):
        pytest.skip("no file system can be mounted here")
    with small_disk(tmp_path / "disk", DISK) as disk:
        ward = make_ward(home=disk)
        ward.program.start()
        be_full(ward, enter, full_mount(ward), "server disk full (small tmpfs)")
        ward.close()


def test_a_database_that_cannot_grow(make_ward: Callable[..., Ward], enter: Enter) -> None:
    """The same, by SQLite's own limit."""
    ward = make_ward()
    ward.plant(f"pages={ward.folder / 'full'}")
    ward.program.start()
    be_full(ward, enter, full_pages(ward), "server disk full (max_page_count)")


def be_full(ward: Ward, enter: Enter, fault: AbstractContextManager[None], name: str) -> None:
    """Train through it, with a spool that lies on another disk."""
    training = ward.train(
        directory=ward.folder / "trainer", server=ward.program.url, token=ward.program.token("ingest")
    )
    training.under_way()
    with ward.fault(name, "`nack retry`, `/readyz` 503; heals with 0 lost") as row, fault:
        until(lambda: ready(ward) == 503)
        before = ward.committed()
        training.go_on(SECONDS)
        assert ward.committed() - before < 10
    assert ready(ward) == 200
    enter(row)


@pytest.mark.parametrize("ring", [4 << 20, 4 << 10])
def test_a_spool_that_cannot_be_written(visited: Ward, enter: Enter, ring: int) -> None:
    """Full, then read-only, then broken: training goes on, and what happens meanwhile waits in memory. What finds no
    room there is a gap of exactly that many records."""
    control = visited.folder / "broken"
    training = visited.train(plants=(f"disk={control}", f"ring={ring}")).under_way()
    name = f"spool full, read-only, EIO; {ring >> 10} KiB of memory"
    with visited.fault(name, "memory ring, then counted gap; training goes on") as row:
        for error in ("ENOSPC", "EROFS", "EIO"):
            control.write_text(error)
            training.go_on(SECONDS / 2)
        control.unlink()
    training.end()
    row.count(visited.audit())
    enter(row)
    check_count(training, row)
    assert (row.gaps > 0) == (ring < 1 << 20)


@pytest.mark.chaos
def test_a_spool_on_a_disk_that_is_full(visited: Ward, enter: Enter, tmp_path: Path) -> None:
    """The real thing: a file system without room, and room again."""
    if not may_mount(tmp_path / "disk"):
        pytest.skip("no file system can be mounted here")
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        options = {"server": visited.program.url, "token": visited.program.token("ingest")}
        training = visited.train(directory=disk, **options).under_way()
        with visited.fault("spool disk full (small tmpfs)", "memory ring, then counted gap; training goes on") as row:
            ballast = fill(disk)
            training.go_on(SECONDS)
            ballast.unlink()
        training.end()
        row.count(visited.audit())
        enter(row)
        check_count(training, row)


def check_count(training: Training, row: Row) -> None:
    """Every record of the training is stored or counted, exactly."""
    ledger = training.ledger.read()
    assert ledger.spooled + row.gaps == ledger.queued
    assert ledger.dropped == row.gaps


@pytest.mark.chaos
def test_writes_that_the_kernel_refuses(visited: Ward, enter: Enter) -> None:
    """EIO from the system call itself, for one file, injected into the running process by strace."""
    training = visited.train().under_way()
    segments = list(visited.home.glob(f"spool/{training.ledger.run}/*/*.seg"))
    with (
        visited.fault("spool EIO (strace)", "memory ring, then counted gap; training goes on") as row,
        tracing(training.process.pid, segments[0]) as tracer,
    ):
        training.go_on(3.0)
        if tracer.poll() is not None:
            pytest.skip("no process can be traced here")
    training.end()
    row.count(visited.audit())
    enter(row)
    check_count(training, row)
    assert "records wait in memory" in training.log.read_text()


@contextmanager
def tracing(pid: int, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Whatever the process writes to or syncs in a file fails, until the end of the block."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    inject = ["-e", "trace=write,fdatasync", "-e", "inject=write,fdatasync:error=EIO"]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(path), *inject, "-p", str(pid)]
    with child(command, stderr=subprocess.DEVNULL) as tracer:
        try:
            yield tracer
        finally:
            tracer.terminate()
