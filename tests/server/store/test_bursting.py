"""Files made to burst: a few bytes that say, or hold, far more than there is memory for. Whatever reads a stranger's
file answers in one line, and makes no room for what it does not believe."""

import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zstandard

from kept import tell
from served import Served
from trainvitals_server.cli import main
from trainvitals_server.errors import FileRefusedError
from trainvitals_server.life.importing import import_alone
from trainvitals_server.store import codec, limits
from trainvitals_server.store.parcel import write_parcel

Spoil = Callable[[sqlite3.Connection], object]
MOST = 200 << 20  # bytes of memory that reading such a file may take
LONGEST = 1 << 50  # a step


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def promise(size: int) -> bytes:
    """A zstd frame that says it holds so many bytes, and ends early."""
    writer = zstandard.ZstdCompressor().compressobj(size=size)
    return writer.compress(bytes(1000)) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def nothing(size: int) -> bytes:
    """A sound zstd frame of so many zeros."""
    return zstandard.ZstdCompressor().compress(bytes(size))


def run_of(sql: str, *values: object) -> Spoil:
    return lambda connection: connection.execute(sql, values)


def overlap(connection: sqlite3.Connection) -> None:
    """A dozen spans of a million frames each, all of which may hold any step."""
    n = limits.MAX_FRAMES
    steps, times = codec.pack(np.arange(n)), codec.pack(np.zeros(n))
    rows = [(2000 + place, LONGEST, n, steps, times) for place in range(12)]
    connection.executemany("INSERT INTO spans (layout, first_step, last_step, n, steps, times) VALUES "
                           "((SELECT min(layout) FROM spans), ?, ?, ?, ?, ?)", rows)  # fmt: skip
    connection.execute("UPDATE producers SET last_step = ?", (LONGEST,))
    connection.execute("UPDATE shelves SET packed = ?", (LONGEST,))


SPOILED: dict[str, Spoil] = {
    "a chunk that says it is a terabyte": run_of('UPDATE chunks SET "values" = ?', promise(1 << 40)),
    "a chunk of 400 MB": run_of('UPDATE chunks SET "values" = ?', nothing(400 << 20)),
    "presence of 400 MB": run_of("UPDATE chunks SET present = ?", nothing(400 << 20)),
    "a chunk that does not say": run_of(
        'UPDATE chunks SET "values" = ?', zstandard.ZstdCompressor(write_content_size=False).compress(bytes(400 << 20))
    ),
    "steps of a terabyte, as many as promised": run_of("UPDATE spans SET n = ?, steps = ?", 1 << 37, promise(1 << 40)),
    "steps of 400 MB, as many as promised": run_of(
        "UPDATE spans SET n = ?1, steps = ?2, times = ?2", 50 << 20, nothing(400 << 20)
    ),
    "more frames than there can be": run_of("UPDATE spans SET n = ?", 1 << 62),
    "fewer than none": run_of("UPDATE spans SET n = -1"),
    "hot frames beyond number": run_of('INSERT INTO frames (layout, first_step, last_step, n, steps, times, "values")'
                                       " SELECT layout, 2000, 2009, 1 << 40, x'', x'', x'' FROM spans LIMIT 1"),
    "spans that lie upon one another": overlap,
    "a value of 70 MB": run_of('UPDATE chunks SET "values" = zeroblob(70 << 20) WHERE block = 1'),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's file, compacted."""
    folder = tmp_path_factory.mktemp("burst")
    with Served(folder / "home") as served:
        tell(served, "r1", frames=400)
    write_parcel(folder / "home" / "trainvitals.db", "r1", folder / "r1.db", no_progress)
    return folder / "r1.db"


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    path = tmp_path / "r1.db"
    path.write_bytes(made.read_bytes())
    return path


def spoil(file: Path, name: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        SPOILED[name](connection)


def peak(what: Callable[[], object]) -> int:
    """The most memory that Python and numpy held meanwhile."""
    tracemalloc.start()
    try:
        what()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("verb", ["query", "check"])
def test_a_file_made_to_burst_is_told_in_words(
    verb: str, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of `query`, one for each series of `check`; no traceback, and no memory to speak of."""
    spoil(file, name)
    words = ["query", "r1", "--sql", "SELECT sum(value) FROM points"] if verb == "query" else ["check"]
    codes: list[int] = []
    assert peak(lambda: codes.append(main([*words, "--db", str(file)]))) < MOST
    out, err = capsys.readouterr()
    assert codes == [1]
    said = err.splitlines() if verb == "query" else out.splitlines()
    assert len(said) == 1 if verb == "query" else said
    assert all("cannot be read" in line for line in said), said


@pytest.mark.parametrize("name", SPOILED)
def test_none_of_them_is_taken_in(name: str, file: Path, tmp_path: Path) -> None:
    """What `import` and `replay` read is refused before it bursts."""
    spoil(file, name)

    def take() -> None:
        with pytest.raises(FileRefusedError) as caught:
            import_alone(tmp_path / "here.db", file, 1.0, no_progress)
        assert len(str(caught.value).splitlines()) == 1

    assert peak(take) < MOST


def test_wide_blocks_and_rows_of_many_buckets_are_refused_too(file: Path, tmp_path: Path) -> None:
    """A promise that another one makes large: columns of a block, buckets of a row."""
    for sql in (
        "UPDATE blocks SET columns = zeroblob(4 * 33)",
        "UPDATE fresh_buckets SET shape = zeroblob(32 * 129), edges = zeroblob(20 * 129 * 3)",
    ):
        copy = tmp_path / "copy.db"
        copy.write_bytes(file.read_bytes())
        with closing(sqlite3.connect(copy)) as connection, connection:
            assert connection.execute(sql).rowcount
        with pytest.raises(FileRefusedError, match=r"expected columns of|expected some buckets"):
            import_alone(tmp_path / "here.db", copy, 1.0, no_progress)


def test_what_is_read_is_as_long_as_it_must_be() -> None:
    """Neither shorter nor longer, and never beyond the limit, whatever its reader expects."""
    packed = codec.pack(np.arange(10, dtype=np.float32))
    assert codec.unpack_floats(packed, (2, 5)).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    for shape in ((2, 4), (2, 6), (-2, -5), (0, 5)):
        with pytest.raises(ValueError, match="bytes packed, got 40"):
            codec.unpack_floats(packed, shape) if shape != (-2, -5) else codec.expand(packed, -40)
    with pytest.raises(ValueError, match="expected at most"):
        codec.expand(promise(limits.MAX_BYTES + 4), limits.MAX_BYTES + 4)
