"""From the device to the host without waiting.

A submission is a list of parts, each a 1-D float32 tensor and the columns it fills. On the CPU it completes at once. On
CUDA the parts are concatenated and copied into one of a ring of pinned buffers, an event is recorded, and the values
are read only after the event has completed; a full ring drops the submission and counts it, and nothing is ever
overwritten or waited for. The current stream is used, no side stream. While a CUDA graph is captured nothing is
submitted, allocated or queried: in capture each of these is an error, of the user's graph too.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainvitals.hooks import capturing

Index = slice | npt.NDArray[np.intp]
RING = 8


@dataclass(frozen=True)
class Part:
    """Values for some columns: float32, shape [len(columns)]."""

    columns: Index
    values: torch.Tensor


Deliver = Callable[[list[tuple[Index, npt.NDArray[np.float32]]] | None], None]


class Transfer:
    """Carries parts to the host and hands them, in order per device, to the `deliver` given with them, or None where
    they were dropped."""

    def __init__(self) -> None:
        self._rings: dict[torch.device, _Ring] = {}
        self._failure: Exception | None = None
        self.dropped = 0

    def submit(self, parts: Sequence[Part], deliver: Deliver) -> int:
        """Start carrying `parts`; returns how often `deliver` will be called: once per device, also where carrying
        failed (see `raise_failure`), so that nothing waits for it."""
        groups: dict[torch.device, list[Part]] = {}
        for part in parts:
            groups.setdefault(part.values.device, []).append(part)
        for device, group in groups.items():
            if device.type == "cpu":
                deliver([(part.columns, part.values.numpy()) for part in group])
            else:
                self._carry(device, group, deliver)
        return len(groups)

    def raise_failure(self) -> None:
        """Raise what the last `submit` failed with."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def poll(self) -> None:
        """Deliver what has arrived since the last call."""
        for ring in self._rings.values():
            ring.poll()

    def finish(self) -> None:
        """Wait for everything under way; for the end of training only."""
        for device, ring in self._rings.items():
            torch.cuda.synchronize(device)
            ring.poll()

    def _carry(self, device: torch.device, parts: list[Part], deliver: Deliver) -> None:
        try:
            under_way = self._copy(device, parts, deliver)
        except Exception as error:  # raised in `raise_failure`
            self._failure, under_way = error, False
        if not under_way:
            self.dropped += 1
            deliver(None)

    def _copy(self, device: torch.device, parts: list[Part], deliver: Deliver) -> bool:
        """One copy of all parts from another device; False where that is not possible now."""
        if capturing():
            return False
        values = torch.cat([part.values for part in parts])
        columns = [part.columns for part in parts]
        sizes = [part.values.numel() for part in parts]
        if device.type == "cuda":
            return self._ring(device).push(values, columns, sizes, deliver)
        deliver(_split(columns, sizes, values.cpu().numpy()))
        return True

    def _ring(self, device: torch.device) -> "_Ring":
        if device not in self._rings:
            self._rings[device] = _Ring()
        return self._rings[device]


class _Ring:
    """Pinned buffers of one CUDA device and the copies under way in them, oldest first."""

    def __init__(self) -> None:
        self._free: list[torch.Tensor] = []
        self._made = 0
        self._under_way: deque[tuple[Any, torch.Tensor, list[Index], list[int], Deliver]] = deque()

    def push(self, values: torch.Tensor, columns: list[Index], sizes: list[int], deliver: Deliver) -> bool:
        buffer = self._buffer(values.numel())
        if buffer is None:
            return False
        buffer[: values.numel()].copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(values.device))
        self._under_way.append((event, buffer, columns, sizes, deliver))
        return True

    def poll(self) -> None:
        if self._under_way and capturing():
            return
        while self._under_way and self._under_way[0][0].query():
            _, buffer, columns, sizes, deliver = self._under_way.popleft()
            deliver(_split(columns, sizes, buffer[: sum(sizes)].numpy().copy()))
            self._free.append(buffer)

    def _buffer(self, size: int) -> torch.Tensor | None:
        for i, buffer in enumerate(self._free):
            if buffer.numel() >= size:
                return self._free.pop(i)
        if self._made >= RING:
            return None
        self._made += 1
        return torch.empty(max(size, 1024), dtype=torch.float32, pin_memory=True)


def _split(
    columns: list[Index], sizes: list[int], values: npt.NDArray[np.float32]
) -> list[tuple[Index, npt.NDArray[np.float32]]]:
    pieces, start = [], 0
    for index, size in zip(columns, sizes, strict=True):
        pieces.append((index, values[start : start + size]))
        start += size
    return pieces
