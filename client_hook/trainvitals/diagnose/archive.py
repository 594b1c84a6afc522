"""torch's zip files: records stored as they are, found by their place in the file.

Everything a zip says twice is compared before a byte of it is used: records must be stored uncompressed, lie apart from
each other and within the file, and have the sizes that both of their headers give.
"""

import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trainvitals.diagnose.report import RefusedError

MAX_PICKLE = 256 << 20  # bytes; a pickle holds names and numbers, the tensors lie beside it
MAX_RECORDS = 200_000
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
DESCRIPTOR = 0x08  # flag: the checksum follows the data


@dataclass(frozen=True)
class Record:
    """One entry: where its headers and its data begin, and how many bytes it holds."""

    name: str
    local: int
    central: int
    start: int
    size: int
    flags: int


class Archive:
    """The records of one checkpoint by the name torch gives them, without the folder they all lie in."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.records = _records(file)
        if "data.pkl" not in self.records:
            raise RefusedError("expected a checkpoint of torch.save, got a zip file without data.pkl")
        if any(name.startswith("code/") or name == "constants.pkl" for name in self.records):
            raise RefusedError("expected a checkpoint, got a TorchScript program; save its state_dict() instead")
        order = self.read("byteorder", 16) if "byteorder" in self.records else b"little"
        self.order = {b"little": "<", b"big": ">"}.get(order.strip(), "")
        if not self.order:
            raise RefusedError(f"byteorder: expected little or big, got {order[:16]!r}")

    def read(self, name: str, most: int = MAX_PICKLE) -> bytes:
        """A small record, whole. Raises `RefusedError` where it is larger than `most`."""
        record = self.records[name]
        if record.size > most:
            raise RefusedError(f"{name}: expected at most {most:,} bytes, got {record.size:,}")
        self.file.seek(record.start)
        return self.file.read(record.size)


def _records(file: BinaryIO) -> dict[str, Record]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise RefusedError(f"expected a whole zip file, got one that is broken: {error}") from error
    _check_end(file, directory)
    if len(infos) > MAX_RECORDS:
        raise RefusedError(f"expected at most {MAX_RECORDS:,} records, got {len(infos):,}")
    places = _central_places(file, directory, len(infos))
    records = [_record(file, info, place) for info, place in zip(infos, places, strict=True)]
    _check_apart(records, directory)
    roots = {record.name.partition("/")[0] for record in records}
    named = {record.name.partition("/")[2]: record for record in records}
    if len(roots) > 1 or len(named) < len(records):
        raise RefusedError("expected records of different names in one folder, got some twice or several folders")
    return named


def _check_end(file: BinaryIO, directory: int) -> None:
    """The file ends as torch ends it: no comment, one disk, and the directory where it says."""
    file.seek(-_END.size, os.SEEK_END)
    mark, disk, first_disk, _, _, _, offset, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\x05\x06" or comment or {disk, first_disk} - {0, 0xFFFF} or offset not in (directory, 0xFFFFFFFF):
        raise RefusedError("expected a zip file that ends with its directory, got one with something else there")


def _central_places(file: BinaryIO, directory: int, count: int) -> Iterator[int]:
    place = directory
    for _ in range(count):
        file.seek(place)
        head = file.read(_CENTRAL.size)
        if len(head) < _CENTRAL.size or head[:4] != b"PK\x01\x02":
            raise RefusedError("expected a zip directory as long as it says, got a shorter one")
        yield place
        *_, name, extra, comment, _, _, _, _ = _CENTRAL.unpack(head)
        place += _CENTRAL.size + name + extra + comment


def _record(file: BinaryIO, info: zipfile.ZipInfo, central: int) -> Record:
    name = info.filename
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise RefusedError(f"expected plain names of records, got {name[:80]!r}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise RefusedError(f"{name[:80]!r}: expected a record stored as it is, got a compressed or encrypted one")
    if not 0 <= info.header_offset < central:
        raise RefusedError(f"{name[:80]!r}: expected a record before the directory, got one elsewhere")
    file.seek(info.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        raise RefusedError(f"{name[:80]!r}: expected a record where the directory says, got none")
    _, _, flags, method, _, _, _, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    stated = {packed, size} - {0xFFFFFFFF} - ({0} if flags & DESCRIPTOR else set())
    if method != 0 or stated - {info.file_size} or file.read(name_length) != name.encode():
        raise RefusedError(f"{name[:80]!r}: expected both of its headers to agree, they do not")
    start = info.header_offset + _LOCAL.size + name_length + extra_length
    return Record(name, info.header_offset, central, start, info.file_size, flags)


def _check_apart(records: list[Record], directory: int) -> None:
    end, before = 0, ""
    for record in sorted(records, key=lambda one: one.local):
        if record.local < end:
            raise RefusedError(
                f"expected records apart from each other, got {record.name[:80]!r} within {before[:80]!r}"
            )
        end, before = record.start + record.size, record.name
    if end > directory:
        raise RefusedError(f"{before[:80]!r}: expected its data before the directory, it says it is longer")
