"""`trainvitals.watch`: from its arguments to a `Watch`."""

import os
import re
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from trainvitals import wire
from trainvitals.checkpoint import LoadedCheckpoint
from trainvitals.delivery.depot import new_run_id
from trainvitals.errors import ConfigurationError
from trainvitals.layers import Models
from trainvitals.monitor import Watch
from trainvitals.options import AutoSanitize, Mode, Options, choose_mode
from trainvitals.ranks import find_place, join
from trainvitals.training import Training

_watches: "weakref.WeakValueDictionary[int, Watch]" = weakref.WeakValueDictionary()


def watch(
    model: nn.Module | Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer] | None = None,
    *,
    scaler: torch.amp.GradScaler | None = None,
    ema: nn.Module | None = None,
    server: str | None = None,
    token: str | None = None,
    name: str | None = None,
    project: str = "default",
    config: Mapping[str, Any] | None = None,
    every: int = 1,
    health_every: int = 100,
    auto_sanitize: AutoSanitize = "restore",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    allow: tuple[str, ...] = ("sanitize",),
    mode: Mode | None = None,
    directory: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    resume: "str | LoadedCheckpoint | None" = None,
    start_step: int = 0,
    scheduler: Any = None,
    max_repairs: int | None = None,
    replay: bool = True,
    keep_batches: bool = True,
) -> "Watch":
    """Watch a model while it trains. Raises ConfigurationError for a wrong setting; after that nothing raises.

    `model` and `optimizer` may be dicts, whose keys become prefixes. `mode` is "online" (spool and stream), "offline"
    (spool only) or "disabled" (no effect, no files, no threads). `resume` names the run to go on with, or is what
    `load_checkpoint` returned: then its run, step and best metric are taken up. `replay` runs a batch in which
    something became non-finite once more, to find what broke first; a forward that changes more than buffers and
    parameters that are not trained may want it off. `keep_batches` keeps the first few such batches beside the spool,
    on this machine. Watching the same model twice returns the same Watch.

    The Watch tells `run_id`, `url`, `state`, `spool_path`, `dropped` (records lost here) and `quarantined` (records
    that the server refused for good). Records wait for a server in a spool below `directory` (default:
    TRAINVITALS_DIR); all spools there come to at most 256 MiB, or 5 % of what is free on the disk where that is less;
    TRAINVITALS_SPOOL_BYTES sets another limit.
    """
    loaded = resume if isinstance(resume, LoadedCheckpoint) else None
    models: Models = {"": model} if isinstance(model, nn.Module) else dict(model)
    known = _watches.get(id(next(iter(models.values()))))
    if known is not None and known.enabled and not known.closed and known.models == models:
        return known
    options = Options(
        name=name or "run",
        project=project,
        config=dict(config or {}),
        every=every,
        health_every=health_every,
        auto_sanitize=auto_sanitize,
        include=include,
        exclude=exclude,
        allow=tuple(allow),
        mode=cast("Mode", choose_mode(mode)),
        server=server,
        max_repairs=max_repairs,
        replay=replay,
        keep_batches=keep_batches,
        start_step=int(start_step) or (loaded.next_step if loaded else 0),
    )
    optimizers = {"": optimizer} if isinstance(optimizer, torch.optim.Optimizer) else dict(optimizer or {})
    given = run_id or (loaded.run if loaded else cast("str | None", resume)) or os.environ.get("TRAINVITALS_RUN_ID")
    if options.mode == "disabled":  # asks nobody
        run, place = given or new_run_id(), find_place()
    else:
        run, place = join(given, new_run_id())
    options = replace(options, place=place)
    if not re.fullmatch(wire.ID_PATTERN, run):
        raise ConfigurationError(f"run_id: expected up to 128 letters, digits and . _ : ~ - , got {run!r}")
    made = Watch(Training(models, optimizers, scaler, ema, scheduler), options, run, token, directory)
    if loaded is not None:
        made.best_metric = loaded.best_metric
    _watches[id(next(iter(models.values())))] = made
    return made
