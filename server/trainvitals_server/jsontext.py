"""JSON as the interface promises it: a number that is not finite is the string "NaN", "Infinity" or "-Infinity"."""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

SPELLED = {math.inf: "Infinity", -math.inf: "-Infinity"}
MAX_DEPTH = 64
WHOLE = {int, str, bool}


def dumps(value: Any) -> bytes:
    """The JSON text of anything made of plain Python, structs and named tuples; other things become their `repr`."""
    return msgspec.json.encode(plain(value))


def plain(value: Any, depth: int = 0) -> Any:
    """The value made of what JSON has, non-finite numbers spelled out. What is nested deeper than `MAX_DEPTH` is left
    out, and an ellipsis stands for it: what a trainer once told must never keep its run's pages from being shown."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return number(value)
    return "..." if depth > MAX_DEPTH else _plain_inside(value, depth + 1)


def _plain_inside(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {str(key): plain(item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        if set(map(type, value)) <= WHOLE:  # long lists mostly are
            return list(value)
        return [plain(item, depth) for item in value]
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value), depth)
    return repr(value)


def number(value: float) -> float | str:
    """A float, or its name where it is not finite."""
    return value if math.isfinite(value) else SPELLED.get(value, "NaN")


def numbers(values: NDArray[np.float64]) -> list[float | str]:
    """An array of floats, as JSON wants it."""
    listed: list[float | str] = values.tolist()
    return listed if np.isfinite(values).all() else [number(float(one)) for one in listed]
