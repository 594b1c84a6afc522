"""The numbers of a tensor in a file, read in pieces and judged bit by bit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainvitals.diagnose.pickles import ITEM_BYTES, Tensor
from trainvitals.diagnose.report import Issue, RefusedError

PIECE = 1 << 22  # elements read at once
MAX_STRIDED = 1 << 28  # bytes of a storage that is read whole because a view jumps about in it
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """A tensor in a file: its storage begins at byte `start` and has `bytes` bytes; `offset` and `stride` are in
    elements of it."""

    dtype: str
    start: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    bytes: int
    order: str = "<"

    @property
    def elements(self) -> int:
        """How many the tensor has."""
        return math.prod(self.shape)

    @property
    def is_numeric(self) -> bool:
        """Whether its numbers can be non-finite at all."""
        return self.dtype.startswith(("float", "bfloat", "complex"))


def place_of(tensor: Tensor, start: int, size: int, order: str) -> Place:
    """Where a tensor's numbers lie, given its record. Raises `RefusedError` where it reaches beyond it."""
    stored = tensor.storage.elements * ITEM_BYTES.get(tensor.storage.dtype, 1)  # of an untyped one: bytes
    if stored > size:
        raise RefusedError(f"record {tensor.storage.key!r}: expected {stored:,} bytes, got {size:,}")
    reach = 0 if 0 in tensor.shape else 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
    if (tensor.offset + reach) * ITEM_BYTES[tensor.dtype] > stored and reach:
        raise RefusedError(f"record {tensor.storage.key!r}: expected a tensor within it, got one that reaches beyond")
    return Place(tensor.dtype, start, tensor.offset, tensor.shape, tensor.stride, stored, order)


def judge(file: BinaryIO, place: Place, issue: Issue, negative: bool) -> None:
    """Fill `issue` with what is wrong in the tensor; `negative` values count where it is a variance."""
    shape = tuple(1 if step == 0 else size for size, step in zip(place.shape, place.stride, strict=True))
    once = replace(place, shape=shape) if place.elements else place  # an expanded dimension repeats the same elements
    times = place.elements // max(once.elements, 1)
    for begin, values in pieces(file, once):
        wrong = _Wrong(values, place.dtype, negative)
        if wrong.any:
            if not issue.count:
                flat = begin + wrong.first
                issue.first = [int(i) for i in np.unravel_index(flat, shape)] if shape else []
            issue.nan += wrong.nan * times
            issue.posinf += wrong.posinf * times
            issue.neginf += wrong.neginf * times
            issue.negative += wrong.negative * times


def pieces(file: BinaryIO, place: Place) -> Iterator[tuple[int, Array]]:
    """The tensor's elements in order, as raw unsigned integers or floats, with the index of each piece's first."""
    kind = raw_type(place)
    if place.elements == 0:
        return
    if is_contiguous(place):
        file.seek(place.start + place.offset * kind.itemsize)
        for begin in range(0, place.elements, PIECE):
            count = min(PIECE, place.elements - begin)
            yield begin, _read(file, kind, count)
        return
    yield 0, strided(file, place).reshape(-1)


def strided(file: BinaryIO, place: Place) -> Array:
    """A view that jumps about in its storage, which is read whole. Raises `RefusedError` where that is too much."""
    kind = raw_type(place)
    if max(place.bytes, place.elements * kind.itemsize) > MAX_STRIDED:
        raise RefusedError(f"expected a strided tensor of at most {MAX_STRIDED >> 20} MiB, got a larger one")
    file.seek(place.start)
    stored = _read(file, kind, place.bytes // kind.itemsize)
    steps = tuple(step * kind.itemsize for step in place.stride)
    return np.lib.stride_tricks.as_strided(stored[place.offset :], place.shape, steps, writeable=False)


def raw_type(place: Place) -> np.dtype[Any]:
    """How its elements are read: what numpy does not know, as unsigned integers of its size."""
    known = {"float16": "f2", "float32": "f4", "float64": "f8", "complex64": "c8", "complex128": "c16"}
    return np.dtype(place.order + known.get(place.dtype, f"u{ITEM_BYTES[place.dtype]}"))


def is_contiguous(place: Place) -> bool:
    """Whether its elements follow each other."""
    expected = 1
    for size, step in zip(reversed(place.shape), reversed(place.stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def as_floats(values: Array, dtype: str) -> Array:
    """The elements as floats (complex ones as they are)."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype == "complex32":
        return values.astype(np.uint32).view(np.float16).astype(np.float32)  # pairs; only their finiteness is asked
    if dtype.startswith("float8"):
        return _FLOAT8[dtype][values]
    return values


def _read(file: BinaryIO, kind: np.dtype[Any], count: int) -> Array:
    data = file.read(count * kind.itemsize)
    if len(data) < count * kind.itemsize:
        raise RefusedError("expected the file to be as long as it says, it ended before")
    return np.frombuffer(data, kind)


class _Wrong:
    """What is wrong in one piece."""

    def __init__(self, values: Array, dtype: str, variance: bool) -> None:
        floats = as_floats(values, dtype)
        if dtype == "complex32":
            floats = floats.reshape(-1, 2).sum(1)  # NaN and Inf stay what they are, or become NaN
        is_complex = np.iscomplexobj(floats)
        finite = np.isfinite(floats)
        below = (floats < 0) if variance and not is_complex else np.zeros(floats.shape, bool)
        wrong = ~finite | below
        self.any = bool(wrong.any())
        self.first = int(wrong.argmax())
        nan = np.isnan(floats)
        self.nan = int(nan.sum()) if self.any else 0
        under = np.zeros(floats.shape, bool) if is_complex else floats < 0
        infinite = ~finite & ~nan
        self.posinf = int((infinite & ~under).sum()) if self.any else 0
        self.neginf = int((infinite & under).sum()) if self.any else 0
        self.negative = int((below & finite).sum()) if self.any else 0


def _float8(nan: list[int], inf: dict[int, float]) -> npt.NDArray[np.float32]:
    """All 256 values of an 8-bit format as far as judging goes: sign, NaN, Inf; the others as plus or minus 1."""
    table = np.where(np.arange(256) < 128, 1, -1).astype(np.float32)
    table[[0, 128]] = 0
    table[nan] = np.nan
    for code, value in inf.items():
        table[code] = value
    return table


_FLOAT8 = {
    "float8_e4m3fn": _float8([0x7F, 0xFF], {}),
    "float8_e5m2": _float8([0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF], {0x7C: np.inf, 0xFC: -np.inf}),
    "float8_e4m3fnuz": _float8([0x80], {}),
    "float8_e5m2fnuz": _float8([0x80], {}),
}
