"""Arrays as bytes: the n-th bytes of all numbers together, then zstd.

Neighbouring float32 of one curve share their sign and exponent; side by side these compress to nothing, and the
mantissas, which do not, are copied: 3.05 bytes a value on noisy curves, at 0.3 thousand million values a second in and
0.7 out.
"""

import threading

import numpy as np
import zstandard
from numpy.typing import NDArray

Rows = NDArray[np.intp] | slice | None  # which along the first axis; None: all

LEVEL = 3  # 1 saves nothing on such data, higher levels gain less than a hundredth


class _Contexts(threading.local):
    """A thread's own, kept: making one costs more than compressing a chunk."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)  # a flipped bit is told
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def squeeze(data: bytes) -> bytes:
    """Bytes, compressed."""
    return _contexts.compressor.compress(data)


def expand(data: bytes) -> bytes:
    """What `squeeze` was given."""
    return _contexts.decompressor.decompress(data)


def pack(array: NDArray[np.generic]) -> bytes:
    """An array of any shape; its type and shape are for the reader to know."""
    plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    planes = plain.view(np.uint8).reshape(plain.size, plain.itemsize).T
    return squeeze(np.ascontiguousarray(planes).tobytes())


def unpack_words(data: bytes, shape: tuple[int, ...], some: Rows = None) -> NDArray[np.uint32]:
    """Numbers of four bytes; `some` picks along the first axis before the bytes are put together, which is the work."""
    planes = np.frombuffer(expand(data), np.uint8).reshape(4, *shape)
    if some is not None:
        planes = planes[:, some]
    words: NDArray[np.uint32] = planes[3].astype(np.uint32)
    for plane in (2, 1, 0):
        words <<= 8
        words |= planes[plane]
    return words


def unpack_floats(data: bytes, shape: tuple[int, ...], some: Rows = None) -> NDArray[np.float32]:
    """A float32 array."""
    return unpack_words(data, shape, some).view(np.float32)


def unpack_integers(data: bytes, shape: tuple[int, ...], some: Rows = None) -> NDArray[np.int32]:
    """An int32 array."""
    return unpack_words(data, shape, some).view(np.int32)


def unpack_longs(data: bytes, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """An int64 array."""
    return _unpack_wide(data).view("<i8").astype(np.int64, copy=False).reshape(shape)


def unpack_doubles(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A float64 array."""
    return _unpack_wide(data).view("<f8").astype(np.float64, copy=False).reshape(shape)


def _unpack_wide(data: bytes) -> NDArray[np.uint8]:
    planes = np.frombuffer(expand(data), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).reshape(-1)


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """Booleans [m, n], eight to a byte along the last axis."""
    return squeeze(np.packbits(bits, axis=1, bitorder="little").tobytes())


def unpack_bits(data: bytes, shape: tuple[int, int], some: Rows) -> NDArray[np.bool_]:
    """Rows `some` of what `pack_bits` was given."""
    packed = np.frombuffer(expand(data), np.uint8).reshape(shape[0], -1)[some]
    return np.unpackbits(packed, axis=1, count=shape[1], bitorder="little").astype(np.bool_)
