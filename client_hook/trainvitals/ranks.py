"""This process among those that train together: its rank, and the run they all belong to.

Nothing here is a collective. The processes agree through the store that torch.distributed keeps for its own rendezvous:
rank 0 puts the run's id there and never waits; another rank looks for it, but not for ever. A script in which one rank
alone calls `watch` therefore neither hangs nor mistakes our message for one of its own, as it would with a broadcast.
Where there is no process group, the environment of torchrun must do.
"""

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import distributed

log = logging.getLogger("trainvitals")
AGREE_SECONDS = 30.0  # how long another rank looks for rank 0's run id: longer than ranks are apart at start-up
LOOK_SECONDS = 0.02
_watches = count()  # the n-th watch of a process belongs to the n-th of the others


@dataclass(frozen=True)
class Place:
    """`rank` of `world_size`; `launch` is the same for the processes that were started together, "" if unknown."""

    rank: int = 0
    world_size: int = 1
    launch: str = ""

    @property
    def leads(self) -> bool:
        """Whether this process tells of the layers; the others send a summary."""
        return self.rank == 0


def find_place() -> Place:
    """As torch.distributed says, else as torchrun's environment does. Asks no other process."""
    if _grouped():
        return Place(distributed.get_rank(), distributed.get_world_size())
    rank, size = (_number(os.environ, name) for name in ("RANK", "WORLD_SIZE"))
    return Place(rank, size) if rank is not None and size is not None and 0 <= rank < size else Place()


def join(run: str | None, fresh: str) -> tuple[str, Place]:
    """The run of this watch, and the place in it. `run` is the id that was given; without one, `fresh` is rank 0's
    proposal, which the other ranks take. May wait `AGREE_SECONDS` for rank 0 where it has not come yet."""
    place = find_place()
    if place.world_size == 1:
        return run or fresh, place
    if not _grouped():
        return run or _launched(os.environ, place) or fresh, place
    try:
        return _join_by_store(run, fresh, place)
    except Exception as error:  # a backend without a store, or a peer that has gone: no reason not to train
        log.warning("rank %d could not agree with rank 0 on a run id, and goes by itself: %s", place.rank, error)
        return run or fresh, place


def _join_by_store(run: str | None, fresh: str, place: Place) -> tuple[str, Place]:
    from torch.distributed.distributed_c10d import _get_default_store  # noqa: PLC0415 - not in every build of torch

    store = _get_default_store()
    name = f"trainvitals/{next(_watches)}"
    launch = store.compare_set(f"{name}/launch", "", uuid.uuid4().hex).decode()  # whoever comes first
    place = Place(place.rank, place.world_size, launch)
    if place.leads:
        store.set(f"{name}/run", run or fresh)
    elif run is None:
        deadline = time.monotonic() + AGREE_SECONDS
        while not store.check([f"{name}/run"]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected rank 0 to call `watch` within {AGREE_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        run = store.get(f"{name}/run").decode()
    return run or fresh, place


def _launched(environment: Mapping[str, str], place: Place) -> str | None:
    """A run id from what torchrun tells all of its processes; None where that is not unique.

    On one machine it is the launcher itself, so that processes it restarts go on with the run. Over several it is the
    rendezvous, unless that has only the name that torchrun gives to all of them."""
    name = environment.get("TORCHELASTIC_RUN_ID")
    if name and _number(environment, "LOCAL_WORLD_SIZE") == place.world_size:
        known = [str(os.getppid()), _started(os.getppid()), *_boot()]
    elif name and name != "none":
        known = [name, environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")]
    else:
        log.warning("the ranks cannot agree on a run id before init_process_group: set TRAINVITALS_RUN_ID for all")
        return None
    known.append(str(next(_watches)))
    return "launch-" + hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _started(process: int) -> str:
    """When a process was started, in ticks since the machine was; "" where the system does not tell."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _boot() -> list[str]:
    try:
        return [Path("/proc/sys/kernel/random/boot_id").read_text()]
    except OSError:
        return []


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
