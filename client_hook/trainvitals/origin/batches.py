"""Keeps a failing batch on the trainer's disk, for the post-mortem: a file that `torch.load` reads with weights_only.

Written by a thread of its own, since training waits for no disk; what it writes was copied before.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainvitals.origin.forwards import Forward

log = logging.getLogger("trainvitals")
CAP_BYTES = 64 << 20  # of one batch
KEPT = 3  # batches of one run


class Batches:
    """The kept batches of a run."""

    def __init__(self) -> None:
        self._left = KEPT
        self._threads: list[threading.Thread] = []

    def keep(self, folder: Path | None, step: int, forward: Forward) -> str:
        """Keep what `forward` was called with; the path, or "" where it is not kept: too large, or one too many."""
        if folder is None or self._left == 0 or forward.nbytes > CAP_BYTES:
            return ""
        self._left -= 1
        path = folder / f"batch-{step:010}.pt"
        state = {
            "step": step,
            "model": forward.key,
            "args": _plain(forward.args),
            "kwargs": _plain(dict(forward.kwargs)),
            "generators": dict(forward.generators),
            "autocast": {kind: None if dtype is None else str(dtype) for kind, dtype in forward.autocast.items()},
        }
        thread = threading.Thread(target=_write, args=(path, state), name="trainvitals-batch", daemon=True)
        thread.start()
        self._threads.append(thread)
        return str(path)

    def close(self, timeout: float = 5.0) -> None:
        """Wait until they are written."""
        for thread in self._threads:
            thread.join(timeout)
        self._threads.clear()


def _plain(value: Any) -> Any:
    """A copy of the tensors, and of anything else what weights_only can load: numbers, text, or its description."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)[:200]


def _write(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    try:
        part.touch(mode=0o600)
        torch.save(state, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        log.warning("the failing batch could not be kept in %s: %s", path, error)
        part.unlink(missing_ok=True)
