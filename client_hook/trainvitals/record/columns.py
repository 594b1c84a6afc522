"""The columns of a layout: which series a frame's values belong to."""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from trainvitals import wire

Key = tuple[str, str, str]  # layer, kind, stat


class Register:
    """The numbers that hold for a whole producer: a series has one id in every layout, and layouts are counted."""

    def __init__(self) -> None:
        self._ids: dict[Key, int] = {}
        self._layouts = count()

    def id_of(self, key: Key) -> int:
        """The id of a series, given out when it is first asked for."""
        return self._ids.setdefault(key, len(self._ids))

    def next_layout(self) -> int:
        """The number of another layout."""
        return next(self._layouts)


class Columns:
    """Allocates columns and announces them. Column i of the layout is the i-th series added."""

    def __init__(self, register: Register) -> None:
        self.layout = register.next_layout()
        self._register = register
        self._keys: list[Key] = []
        self._index: dict[Key, int] = {}
        self._announced = False

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: Key) -> bool:
        return key in self._index

    def add(self, layer: str, kind: str, stat: str) -> int:
        """The column of this series, allocated if it is new. Columns are fixed once they are announced."""
        key = (layer, kind, stat)
        if key not in self._index:
            if self._announced:
                raise ValueError(f"layout {self.layout}: expected no new series after its announcement, got {key}")
            self._index[key] = len(self._keys)
            self._keys.append(key)
        return self._index[key]

    def add_all(self, layers: Sequence[str], kind: str, stat: str) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """One column per layer, in the order given: int [layers]."""
        return np.array([self.add(layer, kind, stat) for layer in layers], dtype=np.intp)

    def series_keys(self) -> list[Key]:
        """All series so far, in column order."""
        return list(self._keys)

    def announce(self, order: dict[str, int]) -> Iterator[wire.Layout]:
        """The layout's messages, each at most 64 KiB; `order` is each layer's place in forward order."""
        self._announced = True
        series = [
            wire.Series(self._register.id_of(key), *key, order.get(key[0], i)) for i, key in enumerate(self._keys)
        ]
        for offset, piece in _pieces(series):
            yield wire.Layout(id=self.layout, offset=offset, total=len(series), series=piece)


def _pieces(series: list[wire.Series]) -> Iterator[tuple[int, list[wire.Series]]]:
    """Split so that each piece stays under the limit; 32 bytes cover what a series needs beside its names."""
    start, size = 0, 0
    for i, one in enumerate(series):
        need = len(one.layer.encode()) + len(one.stat.encode()) + len(one.kind) + 32
        if size + need > wire.MAX_LAYOUT_BYTES and i > start:
            yield start, series[start:i]
            start, size = i, 0
        size += need
    yield start, series[start:]
