"""Disks that are full or broken: the server's, and the trainer's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from served import until
from small_disk import fill, may_mount, small_disk
from ward import Ward

Enter = Callable[..., None]
SECONDS = 1.5
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


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EIO"])
def test_a_spool_that_cannot_be_written(ward: Ward, enter: Enter, error: str) -> None:
    """Training goes on; what could not be kept is a gap of exactly that many records."""
    control = ward.folder / "broken"
    training = ward.train(plants=(f"disk={control}",)).under_way()
    with ward.fault(f"spool {error}", "memory ring, then counted gap; training goes on") as row:
        control.write_text(error)
        training.go_on(SECONDS)
        control.unlink()
    training.end()
    found = ward.audit()
    row.count(found)
    enter(row)
    queued = training.ledger.steps[-1].queued + 1  # and how the run ended
    assert found.stored - 1 + found.gaps in (queued, queued + 1)  # less the gap's own record, where there is one
    assert found.gaps == training.ledger.dropped


def test_a_spool_on_a_disk_that_is_full(ward: Ward, enter: Enter, tmp_path: Path) -> None:
    """The real thing: a file system without room, and room again."""
    if not may_mount(tmp_path / "disk"):
        pytest.skip("no file system can be mounted here")
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        training = ward.train(directory=disk, server=ward.program.url, token=ward.program.token("ingest")).under_way()
        with ward.fault("spool disk full (small tmpfs)", "memory ring, then counted gap; training goes on") as row:
            ballast = fill(disk)
            training.go_on(SECONDS)
            ballast.unlink()
        training.end()
        row.count(ward.audit())
        enter(row)
        ward.close()
