"""Spools that are torn, damaged, or fuller than they may be."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from auditor import audit
from fault_table import Row
from ledger import Producer, Record
from served import frame as frame_of
from served import identify, layout
from trainvitals import home, wire
from trainvitals.delivery.address import Address
from trainvitals.delivery.recovery import recover
from trainvitals.delivery.segments import frame, segment_path
from ward import Training, Ward

Enter = Callable[..., None]
RUN, STEPS = "torn", 6
PAYLOADS = [wire.encode(one) for one in (layout(("", wire.RUN, wire.LOSS)), *(frame_of(s, [s]) for s in range(STEPS)))]
ROWS = [frame(seq, payload) for seq, payload in enumerate(PAYLOADS)]
AT_ONCE = 16
CAP = 64 << 10


def damaged(every: int) -> Iterator[tuple[str, bytes]]:
    """A name and the bytes of a segment: cut within its last frame at every byte, and every bit flipped of its last
    frame and of one before. Only every so many of them."""
    whole, before, last = b"".join(ROWS), b"".join(ROWS[:-1]), len(ROWS[-1])
    for length in range(1, last, every):
        yield f"cut-{length}", before + ROWS[-1][:length]
    for row in (3, len(ROWS) - 1):
        start = sum(map(len, ROWS[:row]))
        for bit in range(0, 8 * len(ROWS[row]), every):
            torn = bytearray(whole)
            torn[start + bit // 8] ^= 1 << bit % 8
            yield f"flip-{row}-{bit}", bytes(torn)


def lay(folder: Path, producer: str, segment: bytes) -> None:
    """A dead producer's spool."""
    folder.mkdir(parents=True, mode=0o700)
    identity = msgspec.structs.replace(identify(RUN, producer), pid=0, host="elsewhere")
    (folder / "lock").touch()  # and nobody holds it
    segment_path(folder, 0).write_bytes(segment)
    (folder / "identity").write_bytes(msgspec.msgpack.encode(identity))


async def recover_all(folders: list[Path], address: Address) -> list[int]:
    """Deliver each to the server; the records that each says were lost."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(folder: Path) -> int:
        async with turn:
            done = await recover(folder, lambda: address, remove=True)
            assert done.outcome == "delivered", done
            return done.lost

    return await asyncio.gather(*map(one, folders))


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_spool_that_is_torn_or_damaged(visited: Ward, enter: Enter, every: int, tmp_path: Path) -> None:
    """All the whole records arrive, in order; the one that is not is counted, and never read."""
    cases = dict(damaged(every))
    folders = [tmp_path / "spools" / RUN / name for name in cases]
    for folder, segment in zip(folders, cases.values(), strict=True):
        lay(folder, folder.name, segment)
    announced = home.read_server_file(visited.home)
    assert announced is not None
    address = Address(announced.url, visited.program.token("ingest"), announced.socket)
    row = Row(f"torn or bit-flipped spool, {len(cases)} ways", "valid prefix recovered, tail counted")
    begin = time.monotonic()
    lost = asyncio.run(recover_all(folders, address))
    row.recovery = time.monotonic() - begin
    kinds = [Record("layout", -1, 1), *(Record("frame", step, 1) for step in range(STEPS))]
    held, times = dict(enumerate(kinds)), dict.fromkeys(range(len(kinds)), 0.0)
    # a number behind the damage is committed; one at the very end is not, since its owner may give it to another record
    acked = {name: len(kinds) - (1 if name.startswith("flip-3-") else 2) for name in cases}
    told = {name: Producer(held, times, [(acked[name], 0.0)]) for name in cases}
    row.count(audit(visited.database, RUN, told))
    enter(row)
    assert lost == [1] * len(cases)
    assert (row.stored, row.gaps) == (len(cases) * STEPS, len(cases))


@pytest.mark.parametrize("records", [600, pytest.param(2_000, marks=pytest.mark.chaos)])
def test_a_server_that_is_away_for_long(
    make_ward: Callable[..., Ward], enter: Enter, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    """With a spool of 64 KiB, which 300 records fill, as hours fill one of 256 MiB: the cap holds, memory does not
    grow, and what was given up is counted exactly."""
    monkeypatch.setenv("TRAINVITALS_SPOOL_BYTES", str(CAP))
    ward = make_ward()
    training = ward.train(pause=0).under_way()
    name = f"server away, spool of 64 KiB, {records:,} records"
    with ward.fault(name, "0 lost up to the cap, then an exact gap; memory ≤ 4 MiB") as row:
        train_until(training, records // 3)
        before = memory(training.process.pid)
        train_until(training, records)
        grown = memory(training.process.pid) - before
        size = sum(path.stat().st_size for path in ward.home.glob("spool/*/*/*.seg"))
        ward.program.start()
    training.end()
    row.count(ward.audit())
    row.note = f"spool {size >> 10} KiB, memory +{grown / 2**20:.1f} MiB"
    enter(row)
    assert row.gaps > 0
    assert row.stored + row.gaps == training.ledger.only.last + 1
    assert size <= 1.25 * CAP
    assert grown < 16 << 20


def train_until(training: Training, records: int) -> None:
    """Until so many were spooled. Raises TimeoutError."""
    deadline = time.monotonic() + 300
    while training.ledger.read().only.last < records:
        training.go_on(0.1)
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {records} records, got {training.ledger.only.last}")


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) << 10
