"""The user's own numbers, as given to `watch.step`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from trainvitals import wire
from trainvitals.probes.guard import Guard
from trainvitals.probes.shards import local_part
from trainvitals.record.columns import Columns, Register
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit, Stream
from trainvitals.record.transfer import Part, Transfer


class Metrics:
    """A layout of its own; new names begin another one, in which a name already known keeps its id."""

    def __init__(
        self, register: Register, transfer: Transfer, guard: Guard, emit: Emit, places: Callable[[], dict[str, int]]
    ) -> None:
        self._register = register
        self._transfer = transfer
        self._guard = guard
        self._emit = emit
        self._places = places
        self._stream: Stream | None = None

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Numbers, or tensors (their mean), of this step. One that is no number costs only itself."""
        stream = self._stream_of(metrics)
        seen = stream.open(step)
        for name, value in metrics.items():
            column = stream.columns.add("", wire.METRIC, name)
            self._guard.run(f"metric {name}", partial(put_value, stream, seen, column, value), None)
        seen.sealed = True
        stream.advance()

    def advance(self) -> None:
        """Hand on what is complete."""
        if self._stream is not None:
            self._stream.advance()

    def announce_again(self) -> None:
        """Repeat the layout before the next frame."""
        if self._stream is not None:
            self._stream.announce_again()

    def _stream_of(self, metrics: Mapping[str, Any]) -> Stream:
        stream = self._stream
        if stream is None or any(("", wire.METRIC, name) not in stream.columns for name in metrics):
            known = [stat for _, _, stat in stream.columns.series_keys()] if stream else []
            columns = Columns(self._register)
            for name in dict.fromkeys([*known, *metrics]):
                columns.add("", wire.METRIC, name)
            self._stream = stream = Stream(columns, self._transfer, self._emit, self._places)
        return stream


def put_value(stream: Stream, seen: Observation, column: int, value: Any) -> None:
    """One number in `seen`: a tensor is averaged and copied now, since it may be changed in place later."""
    if isinstance(value, torch.Tensor):
        mean = local_part(value.detach()).float().mean().reshape(1)
        # a single float32 element passes through all of that as a view, so copy it
        stream.submit(seen, [Part(slice(column, column + 1), mean.clone())])
    elif value is not None:
        seen.put(column, float(value))
