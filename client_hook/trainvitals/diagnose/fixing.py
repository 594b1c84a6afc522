"""Writing the repaired copy: bad channels to mean 0 and variance 1, and every other byte as it was.

The file is copied and the corrupt elements are overwritten in the copy; in a zip file the record's checksum follows, in
its headers and behind its data. The copy takes its name only when it is whole.
"""

import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainvitals.diagnose.archive import DESCRIPTOR, Record
from trainvitals.diagnose.reading import Contents, Named
from trainvitals.diagnose.tensors import Place, as_floats, is_contiguous, pieces, raw_type

Bad = npt.NDArray[np.bool_]
ONES = {
    "bfloat16": 0x3F80, "float8_e4m3fn": 0x38, "float8_e5m2": 0x3C, "float8_e4m3fnuz": 0x40, "float8_e5m2fnuz": 0x40,
    "complex32": 0x3C00,
}  # fmt: skip
PIECE = 1 << 24  # bytes


def fix(path: Path, target: Path, contents: Contents, corrupt: Sequence[str]) -> list[str]:
    """Write `target`, in which the statistics named `corrupt` are repaired; returns the keys of what was changed, in
    order. Raises OSError where it cannot be written."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(path, temporary)
        with temporary.open("r+b") as file:
            changed = _repair(file, contents, set(corrupt))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return changed


def _repair(file: BinaryIO, contents: Contents, corrupt: set[str]) -> list[str]:
    statistics = [named for named in contents.tensors if named.group == "statistics"]
    layers: dict[tuple[str, ...], list[Named]] = {}
    for named in statistics:
        layers.setdefault(named.layer, []).append(named)
    touched: set[str] = set()
    for layer in layers.values():
        if any(named.key in corrupt for named in layer):
            bad = {named.key: _bad(file, named) for named in layer}
            for named in layer:
                together = [other for other in bad.values() if other.size == bad[named.key].size]
                _overwrite(file, named, np.logical_or.reduce(together))
                touched.add(named.record)
    if contents.archive is not None:
        for record in touched:
            _update_checksum(file, contents.archive.records[record])
    return [named.key for named in statistics if named.key in corrupt]


def _bad(file: BinaryIO, named: Named) -> Bad:
    """Which elements are corrupt, in order."""
    found = []
    for _, values in pieces(file, named.place):
        floats = as_floats(values, named.place.dtype)
        if named.place.dtype == "complex32":
            floats = floats.reshape(-1, 2).sum(1)
        negative = (floats < 0) if named.statistic == "running_var" and not np.iscomplexobj(floats) else False
        found.append(~np.isfinite(floats) | negative)
    return np.concatenate(found) if found else np.zeros(0, bool)


def _overwrite(file: BinaryIO, named: Named, bad: Bad) -> None:
    place = named.place
    kind = raw_type(place)
    one = ONES.get(place.dtype, 1) if named.statistic == "running_var" else 0
    value = np.array(one, kind).tobytes()
    for at in _offsets(place, np.flatnonzero(bad)):
        file.seek(place.start + int(at) * kind.itemsize)
        file.write(value)


def _offsets(place: Place, flat: npt.NDArray[np.intp]) -> Any:
    """Where in the storage the elements with these flat indices lie."""
    if is_contiguous(place):
        return place.offset + flat
    index = np.unravel_index(flat, place.shape)
    return place.offset + sum(i * step for i, step in zip(index, place.stride, strict=True))


def _update_checksum(file: BinaryIO, record: Record) -> None:
    """CRC-32 of the record as it is now, wherever the zip file says it."""
    crc, left = 0, record.size
    file.seek(record.start)
    while left:
        data = file.read(min(PIECE, left))
        crc, left = zlib.crc32(data, crc), left - len(data)
    value = struct.pack("<I", crc)
    places = [record.central + 16]
    if record.flags & DESCRIPTOR:
        file.seek(record.start + record.size)
        signed = file.read(4) == b"PK\x07\x08"
        places.append(record.start + record.size + 4 * signed)
    else:
        places.append(record.local + 14)
    for place in places:
        file.seek(place)
        file.write(value)
