"""Several real processes that train together: started, given a process group over gloo, asked for a result, ended.

They are forked from a server that has imported torch once, which costs a fraction of a second each. What hangs is
killed, by its process id, and every other process of the same call with it.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed

SECONDS = 300.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["torch._dynamo", "torch.distributed.fsdp", "msgspec", "platformdirs", "websockets.sync.client"]
)


def run_ranks(
    size: int,
    target: Callable[..., Any],
    folder: Path,
    *arguments: Any,
    grouped: bool = True,
    environment: dict[str, str] | None = None,
) -> list[Any]:
    """`target(rank, *arguments)` in each of `size` processes; their results, by rank. Raises AssertionError with a
    child's traceback, or TimeoutError. `target` must be importable by name. Without `grouped` there is no process
    group."""
    folder.mkdir(parents=True, exist_ok=True)
    pipes = [_context.Pipe(duplex=False) for _ in range(size)]
    children = [
        _context.Process(
            target=_child, args=(pipe[1], target, rank, size, folder, arguments, grouped, environment or {})
        )
        for rank, pipe in enumerate(pipes)
    ]
    try:
        for child, (_, far) in zip(children, pipes, strict=True):
            child.start()
            far.close()
        results = _collect([near for near, _ in pipes])
        for child in children:
            child.join(SECONDS)
        return results
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
            child.join()
            child.close()
        for near, _ in pipes:
            near.close()


def _collect(pipes: list[Connection]) -> list[Any]:
    deadline = time.monotonic() + SECONDS
    results: dict[int, Any] = {}
    while len(results) < len(pipes):
        open_ones = [pipe for rank, pipe in enumerate(pipes) if rank not in results]
        ready = wait(open_ones, max(0.0, deadline - time.monotonic()))
        if not ready:
            late = sorted(set(range(len(pipes))) - set(results))
            raise TimeoutError(f"expected every rank to end within {SECONDS:g} s, got nothing from {late}")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = pipes.index(pipe)
            good, results[rank] = _received(pipe)
            if not good:
                raise AssertionError(f"rank {rank}:\n{results[rank]}")
    return [results[rank] for rank in range(len(pipes))]


def _received(pipe: Connection) -> tuple[bool, Any]:
    try:
        good, result = pipe.recv()
    except EOFError:
        return False, "ended without a word"
    return good, result


def _child(
    pipe: Connection,
    target: Callable[..., Any],
    rank: int,
    size: int,
    folder: Path,
    arguments: tuple[Any, ...],
    grouped: bool,
    environment: dict[str, str],
) -> None:
    os.environ.update({"TRAINVITALS_DIR": str(folder / "home"), **environment})
    torch.set_num_threads(1)
    try:
        if grouped:
            store = distributed.FileStore(str(folder / "rendezvous"), size)
            distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
        result = target(rank, *arguments)
        if grouped:
            distributed.destroy_process_group()
        pipe.send((True, result))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
