"""The header of a safetensors file: names, dtypes, shapes and places, checked against each other and the file."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from trainvitals.diagnose.pickles import ITEM_BYTES, MAX_DIMENSIONS
from trainvitals.diagnose.report import RefusedError
from trainvitals.diagnose.tensors import Place

MAX_HEADER = 100 << 20  # bytes, as the format's own implementation
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "C64": "complex64", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def places(path: Path) -> list[tuple[str, Place]]:
    """Every tensor of the file by name. Raises `RefusedError` where the header does not hold together."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise RefusedError(
                f"expected a safetensors header of 2 to {MAX_HEADER:,} bytes within the file, got {length:,}"
            )
        header = _parse(file.read(length))
    found = [(name, _place(name, entry, 8 + length, size)) for name, entry in header.items() if name != "__metadata__"]
    end = 8 + length
    for name, place in sorted(found, key=lambda pair: (pair[1].start, pair[1].bytes)):
        if place.start != end:
            raise RefusedError(f"{name[:80]!r}: expected its data at byte {end:,}, got {place.start:,}")
        end += place.bytes
    if end != size:
        raise RefusedError(f"expected a file of {end:,} bytes, got {size:,}")
    return found


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"expected a safetensors header of JSON, got: {str(error)[:120]}") from error
    if not isinstance(header, dict):
        raise RefusedError(f"expected a safetensors header of names, got a {type(header).__name__}")
    return header


def _place(name: str, entry: Any, base: int, size: int) -> Place:
    try:
        dtype, shape = DTYPES.get(entry["dtype"], f"safetensors {entry['dtype']}"), tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        numbers = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        if not numbers or len(shape) > MAX_DIMENSIONS or base + end > size:
            raise ValueError
        if dtype in ITEM_BYTES and math.prod(shape) * ITEM_BYTES[dtype] != end - begin:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"{name[:80]!r}: expected dtype, shape and offsets that agree, got {str(entry)[:120]}"
        ) from error
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return Place(dtype, base + begin, 0, shape, stride, end - begin)
