"""Arrays as bytes: the n-th bytes of all numbers together, then zstd.

Neighbouring float32 of one curve share their sign and exponent; side by side these compress to nothing, and the
mantissas, which do not, are copied: 3.05 bytes a value on noisy curves, at 0.3 thousand million values a second in and
0.7 out.

Whoever reads knows how much must come out. What says that it holds anything else is refused before it is unpacked, and
zstd itself refuses what holds more than it says; so a file that somebody made to burst does not.
"""

import math
import threading

import numpy as np
import zstandard
from numpy.typing import NDArray

from trainvitals_server.store.limits import MAX_BYTES

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


def size(data: bytes) -> int:
    """How many bytes `data` says that it holds; -1 where it does not say."""
    return zstandard.frame_content_size(data)


def expand(data: bytes, length: int) -> bytes:
    """What `squeeze` was given, which must be `length` bytes. Raises ValueError and ZstdError."""
    if not 0 <= length == size(data):
        raise ValueError(f"expected {length} bytes packed, got {size(data)}")
    if length > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes packed, got {length}")
    return _contexts.decompressor.decompress(data)


def pack(array: NDArray[np.generic]) -> bytes:
    """An array of any shape; its type and shape are for the reader to know."""
    plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    planes = plain.view(np.uint8).reshape(plain.size, plain.itemsize).T
    return squeeze(np.ascontiguousarray(planes).tobytes())


def unpack_words(data: bytes, shape: tuple[int, ...], some: Rows = None) -> NDArray[np.uint32]:
    """Numbers of four bytes; `some` picks along the first axis before the bytes are put together, which is the work."""
    planes = np.frombuffer(expand(data, 4 * math.prod(shape)), np.uint8).reshape(4, *shape)
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
    return _unpack_wide(data, shape).view("<i8").astype(np.int64, copy=False).reshape(shape)


def unpack_doubles(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A float64 array."""
    return _unpack_wide(data, shape).view("<f8").astype(np.float64, copy=False).reshape(shape)


def _unpack_wide(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    planes = np.frombuffer(expand(data, 8 * math.prod(shape)), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).reshape(-1)


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """Booleans [m, n], eight to a byte along the last axis."""
    return squeeze(np.packbits(bits, axis=1, bitorder="little").tobytes())


def unpack_bits(data: bytes, shape: tuple[int, int], some: Rows) -> NDArray[np.bool_]:
    """Rows `some` of what `pack_bits` was given."""
    m, n = shape
    packed = np.frombuffer(expand(data, m * -(-n // 8)), np.uint8).reshape(m, -1)[some]
    return np.unpackbits(packed, axis=1, count=n, bitorder="little").astype(np.bool_)
