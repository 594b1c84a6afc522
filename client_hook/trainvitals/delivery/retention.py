"""What a spool keeps, under the cap of the directory as a whole.

Acknowledged segments are kept while there is room, for a server that is restored from an old backup and for a second
one. Over the cap, in this order, as far as needed:

1. the oldest acknowledged segments go: the producer's own, then those of spools whose process has ended,
2. the producer's own oldest segment that no server has is thinned to its events and gaps, then the next one,
3. small thinned segments are united, so that neighbouring gaps become one.

Nothing else is thinned, and what a living or dead producer wrote that no server has is its own business. So one
producer by itself stays within the cap and one segment. Where its events alone come to more than that, nothing more is
taken: `SpoolFullError`.
"""

import logging
import os
import shutil
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.ledger import read_watermark
from trainvitals.delivery.lock import claim
from trainvitals.delivery.segments import SEGMENT_BYTES, find, segment_path, starts
from trainvitals.delivery.thinning import thin, unite
from trainvitals.errors import ConfigurationError, TrainvitalsError

log = logging.getLogger("trainvitals")

CAP_BYTES = 256 << 20
CAP_SHARE = 0.05  # of what is free on the disk
LEAST_CAP = 64 << 10  # a user's smallest
MEASURED = 5.0  # seconds that a look at the others' spools is good for
UNITED = 8  # small thinned segments become one


class SpoolFullError(TrainvitalsError):
    """The spool holds as much as it may, and nothing in it may be thinned; nothing was written."""


def given_cap() -> int | None:
    """`TRAINVITALS_SPOOL_BYTES`, the bytes that all spools of a directory may come to; None where it is not set.
    Raises ConfigurationError."""
    text = os.environ.get("TRAINVITALS_SPOOL_BYTES", "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < LEAST_CAP:
        raise ConfigurationError(
            f"TRAINVITALS_SPOOL_BYTES: expected a number of bytes of at least {LEAST_CAP}, got {text!r}"
        )
    return int(text)


class Retention:
    """The segments of one producer in `path`, and the room that is left. `cap` None: 256 MiB, or 5 % of what is free
    on the disk where that is less (of that and of what the spools hold already)."""

    def __init__(self, path: Path, cap: int | None = None) -> None:
        self.lost = 0  # records that were thinned out
        self.beside = 0  # bytes of what lies beside the segments
        self.sizes: dict[int, int] = {}  # bytes of the own segments, by their first number
        self._path = path
        self._given = cap
        self._thinned: set[int] = set()
        self._others = 0
        self._limit = CAP_BYTES
        self._measured = -MEASURED
        self._asked = False  # whether the others' spools were gone through since then

    @property
    def segment_bytes(self) -> int:
        """The size from which on a segment is closed."""
        return min(SEGMENT_BYTES, max(self._limit // 8, 4096))

    def make_room(self, size: int, committed: int) -> None:
        """See that `size` more bytes may be written. Raises OSError or SpoolFullError."""
        self._measure()
        if self._total() + size <= self._limit:
            return
        self._drop_acknowledged(size, committed)
        if self._total() + size > self._limit and not self._asked:
            self._asked = True
            self._drop_others()
        while self._total() + size > self._limit and self._thin_oldest(committed):
            pass
        thinned = sum(self.sizes[start] for start in self._thinned)
        if self._total() + size > self._limit + self.segment_bytes and thinned > self.segment_bytes:
            raise SpoolFullError(
                f"spool: expected at most {self._limit} bytes in {self._path.parents[1]}, got more, none of them frames"
            )

    def _total(self) -> int:
        return sum(self.sizes.values()) + self.beside + self._others

    def _measure(self) -> None:
        """Look at the disk and the others now and then."""
        if (now := time.monotonic()) - self._measured < MEASURED:
            return
        self._measured = now
        self._asked = False
        self._others = sum(_size(path) for folder in self._neighbours() for path in find(folder, "*.seg"))
        with suppress(OSError):  # somebody deleted the folder: what was known goes on
            free = shutil.disk_usage(self._path).free + self._total()
            self._limit = min(CAP_BYTES, int(CAP_SHARE * free)) if self._given is None else self._given

    def _neighbours(self) -> list[Path]:
        return [path.parent for path in find(self._path.parents[1], "*/*/identity") if path.parent != self._path]

    def _drop_acknowledged(self, size: int, committed: int) -> None:
        begins = sorted(self.sizes)
        for start, following in pairwise(begins):
            if following > committed + 1 or self._total() + size <= self._limit:
                return
            segment_path(self._path, start).unlink(missing_ok=True)
            del self.sizes[start]
            self._thinned.discard(start)

    def _drop_others(self) -> None:
        """Of spools that nobody writes: what a server has, but for the newest segment, by which it is recovered."""
        for folder in self._neighbours():
            try:
                identity = msgspec.msgpack.decode((folder / "identity").read_bytes(), type=wire.Identity)
            except (OSError, msgspec.DecodeError):
                continue
            lock = claim(folder, identity)
            if lock is None:
                continue
            try:
                self._others -= _drop(folder)
            finally:
                lock.close()

    def _thin_oldest(self, committed: int) -> bool:
        """Thin the oldest closed segment that is not yet; whether there was one."""
        begins = sorted(self.sizes)
        for start, following in pairwise(begins):
            if start not in self._thinned and following > committed + 1:
                reason = f"the spool reached its cap of {self._limit} bytes while no server took records"
                if not self.lost:
                    log.warning("%s; of what it holds, the oldest frames are being lost", reason)
                self.sizes[start], lost = thin(self._path, start, following, reason)
                self.lost += lost
                self._thinned.add(start)
                self._unite()
                return True
        return False

    def _unite(self) -> None:
        """Make one of the newest thinned segments, once they are many and small."""
        group: list[int] = []
        for start in sorted(self.sizes, reverse=True):
            if start not in self._thinned:
                if group:
                    break
                continue
            if sum(self.sizes[one] for one in [*group, start]) > self.segment_bytes:
                break
            group.insert(0, start)
        if len(group) < UNITED:
            return
        following = min(start for start in self.sizes if start > group[-1])
        size = unite(self._path, group, following)
        for start in group[1:]:
            del self.sizes[start]
            self._thinned.discard(start)
        self.sizes[group[0]] = size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0


def _drop(folder: Path) -> int:
    """Delete the acknowledged segments but the newest; returns their bytes."""
    committed, begins, freed = read_watermark(folder), starts(folder), 0
    for start, following in pairwise(begins):
        if following <= committed + 1:
            path = segment_path(folder, start)
            freed += _size(path)
            path.unlink(missing_ok=True)
    return freed
