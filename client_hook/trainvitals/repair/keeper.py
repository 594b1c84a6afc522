"""Automatic repair: who decides, when, and what is written down.

The trainer decides. A pass runs at the first safe point after a corrupt statistic was seen, and as a backstop at load,
every `health_every` steps, before validation and before a save. One pass over the model is one sanitization, however
many layers. Repairs repeat for as long as they are needed; only `auto_sanitize="off"`, or `max_repairs` where it is
given, stops them.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Norm, named_norms
from trainvitals.options import Options
from trainvitals.record.findings import health_check
from trainvitals.record.observation import Observation
from trainvitals.repair.reports import Reports
from trainvitals.repair.sanitize import Donor, bad_channels, corrupt_buffers, describe, repair_statistics
from trainvitals.vitals import Vitals

log = logging.getLogger("trainvitals")
UNDO = 8  # commands that can be undone
LINES = 12  # buffers named in one warning

# How the user's own script announces each of its checks; the others are the periodic one's.
HEADS: dict[str, str] = {
    "load": "Performing post-load model health check...",
    "validation": "[Pre-validation sanitization at iter {step}]",
}


@dataclass(frozen=True, eq=False)
class Replaced:
    """What a command replaced in one layer: `channels` bool, `mean` and `var` as they were, each [channels]."""

    norm: Norm
    channels: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor


class Keeper:
    """Repairs the watched models' statistics and records each pass. Statistics that are only copies of another rank's
    are left to that one."""

    def __init__(self, vitals: Vitals, ema: nn.Module | None, options: Options, emit: Callable[[wire.Record], None]):
        self._vitals = vitals
        self._ema = list(named_norms({"": ema})) if ema is not None else []
        self._options = options
        self._emit = emit
        self._pending: set[str] = set()  # models with a corrupt layer
        self._replaced: dict[str, list[Replaced]] = {}
        self._upstream = ""
        self.automatic = 0
        self._reports = Reports()
        self.halted = False
        self.last_repair: int | None = None

    @property
    def follows_altogether(self) -> bool:
        """Whether all statistics here are another rank's."""
        norms = self._vitals.norms
        return bool(norms) and not self._own(norms)

    @property
    def acts(self) -> bool:
        """Whether automatic repair is on."""
        return self._options.auto_sanitize != "off" and not self.halted

    def note(self, seen: Observation, corrupt: set[str]) -> None:
        """An examined step; a pass follows at the next safe point if a layer is corrupt."""
        self._pending = set()
        if corrupt:
            self._pending = {norm.model for norm in self._vitals.norms if norm.name in corrupt}
            self._upstream = self._explain(seen)

    def automatic_pass(self, step: int, models: set[str]) -> None:
        """At a safe point: repair what was seen to be corrupt in `models`."""
        due = self._pending & models
        if due and self.acts:
            self._pending -= due
            self.sweep("auto", step, due)

    def inspect(self, origin: wire.Origin, step: int, models: set[str], also: nn.Module | None = None) -> None:
        """A health check of `models` outside the loop, where waiting for the device does no harm: recorded, and
        followed by a pass if something is corrupt. `also` is a network that is not watched, such as the average that
        is evaluated; it is healed from the live one."""
        others = self._unwatched(also)
        watched = [norm for norm in self._vitals.norms if norm.model in models]
        if origin == "load":
            self._vitals.forget_averages([norm.name for norm in watched])
        if origin == "validation":
            self._tide_over(step, models)
        norms = [*self._own(watched), *others]
        keys = [f"{norm.name}.running_statistics" for norm in norms if bool(bad_channels(norm).any())]
        self._emit(health_check(step, time.time(), origin, keys))
        if not keys:
            log.log(
                logging.INFO if origin == "validation" else logging.DEBUG, "%s Model health OK", _head(origin, step)
            )
        elif not self.acts:
            self.report_unrepaired(origin, step, norms)
        self.sweep(origin, step, models, others)

    def report_unrepaired(self, origin: wire.Origin, step: int, norms: Sequence[Norm]) -> None:
        """Name the corrupt statistics that stay as they are, where automatic repair is off. Waits for the device."""
        found = [f"{norm.name}.{buffer}" for norm in norms for buffer in corrupt_buffers(norm)]
        if found:
            lines = [f"- {key}" for key in found]
            log.warning("%s\n  They stay as they are: automatic repair is off.", _found(origin, step, lines))

    def sweep(
        self, origin: wire.Origin, step: int, models: set[str] | None = None, also: Sequence[Norm] = ()
    ) -> list[wire.Repair]:
        """One automatic pass with the strategy of the options. With repair off nothing is changed."""
        if not self.acts or self._options.auto_sanitize == "off":
            return []
        norms = [norm for norm in self._vitals.norms if models is None or norm.model in models]
        repairs = self.repair(norms, self._options.auto_sanitize, origin, step, also=also)
        if repairs:
            self.automatic += 1
            self._warn(origin, step, repairs)
            if self._options.max_repairs is not None and self.automatic >= self._options.max_repairs:
                self._halt(step)
        return repairs

    def repair(
        self,
        norms: Sequence[Norm],
        strategy: wire.Strategy,
        origin: wire.Origin,
        step: int,
        command: str | None = None,
        dry_run: bool = False,
        also: Sequence[Norm] = (),
    ) -> list[wire.Repair]:
        """One pass over `norms`, the EMA copy and `also`, recorded as one sanitization if it changed anything."""
        norms = self._own(norms)
        if not dry_run and command is not None:
            self._remember(command, norms)
        repairs = repair_statistics(norms, strategy, self._donor, dry_run)
        repairs += repair_statistics([*self._ema, *also], "restore", self._from_live, dry_run)
        if repairs and not dry_run:
            self.last_repair = step
            self._vitals.forget_averages([repair.layer for repair in repairs])
            upstream = self._upstream if origin != "load" else ""
            self._emit(
                wire.Sanitized(
                    step=step,
                    time=time.time(),
                    origin=origin,
                    strategy=strategy,
                    repairs=repairs,
                    command=command,
                    upstream=upstream,
                )
            )
        return repairs

    @torch.no_grad()
    def undo(self, command: str, models: set[str]) -> int:
        """Put back the channels that `command` replaced in `models`; returns the number of layers, 0 where there are
        none or it is too long ago."""
        known = self._replaced.get(command, [])
        now = [one for one in known if one.norm.model in models]
        for one in now:
            one.norm.mean.copy_(torch.where(one.channels, one.mean, one.norm.mean))
            one.norm.var.copy_(torch.where(one.channels, one.var, one.norm.var))
        self._replaced[command] = [one for one in known if one not in now]
        self._vitals.forget_averages([one.norm.name for one in now])
        return len(now)

    def resume(self, step: int) -> None:
        """Repair automatically again after a halt."""
        self.halted, self.automatic = False, 0
        self._emit(wire.Notice(step=step, time=time.time(), code="repair_resumed", text="automatic repair is on again"))

    def tainted(self, model: nn.Module | None) -> bool:
        """Whether statistics of `model` (None: of the watched models) are corrupt now. Waits for the device."""
        norms = self._vitals.norms if model is None else list(named_norms({"": model}))
        return any(bool(bad_channels(norm).any()) for norm in norms)

    def _own(self, norms: Sequence[Norm]) -> list[Norm]:
        """Without those that are copies of another rank's, which repairs them for all."""
        return [norm for norm in norms if not self._vitals.following.follows(norm.model)]

    def _tide_over(self, step: int, models: set[str]) -> None:
        """Before an evaluation, which may go past the wrapper: put in order what another rank's statistics have not
        replaced yet. They will, so that it is no repair of the run."""
        own = {norm.name for norm in self._own(self._vitals.norms)}
        copies = [norm for norm in self._vitals.norms if norm.model in models and norm.name not in own]
        if self.acts and (repairs := repair_statistics(copies, "restore", self._donor, False)):
            lines = describe(repairs)
            log.info("%s\n  Put in order until rank 0's statistics replace them.", _found("validation", step, lines))

    def _unwatched(self, model: nn.Module | None) -> list[Norm]:
        known = {id(norm.module) for norm in [*self._vitals.norms, *self._ema]}
        return [] if model is None else [n for n in named_norms({"": model}) if id(n.module) not in known]

    def _donor(self, norm: Norm, bad: torch.Tensor) -> Donor | None:
        for _, snapshots in self._vitals.signs.statistics:
            if donor := snapshots.donor(norm, bad):
                return donor
        return None

    def _from_live(self, norm: Norm, bad: torch.Tensor) -> Donor | None:
        """An EMA copy is healed from the live layer of the same name."""
        name = norm.name.removeprefix("module.")
        same = [live for live in self._vitals.norms if f".{live.name}".endswith(f".{name}")]
        if len(same) != 1 or same[0].mean.shape != bad.shape:
            return None  # several models with a layer of this name: nobody knows whose copy it is
        live = same[0]
        return Donor(live.mean.to(norm.mean), live.var.to(norm.var), ~bad_channels(live))

    def _remember(self, command: str, norms: Sequence[Norm]) -> None:
        """Keep what is about to be replaced, for the last few commands."""
        kept = self._replaced.setdefault(command, [])
        kept += [Replaced(n, bad, n.mean.clone(), n.var.clone()) for n in norms if bool((bad := bad_channels(n)).any())]
        while len(self._replaced) > UNDO:
            del self._replaced[next(iter(self._replaced))]

    def _explain(self, seen: Observation) -> str:
        """The suspected cause, from what was measured: a skipped step, and the least headroom sampled."""
        scaler = self._vitals.signs.scaler
        parts = [first] if (first := self._vitals.examiner.first) else []
        if scaler.active and seen.values[scaler.skipped_column] > 0:
            parts.append(f"the grad scaler skipped step {seen.step}")
        if self._vitals.examiner.headroom_seen:
            layer, least = min(self._vitals.examiner.headroom_seen.items(), key=lambda item: item[1])
            parts.append(f"least fp16 headroom sampled before: {least:.3g} at {layer}")
        return "; ".join(parts)

    def _warn(self, origin: wire.Origin, step: int, repairs: list[wire.Repair]) -> None:
        layers = {repair.layer for repair in repairs}
        if origin == "auto" and not self._reports.is_full(step, layers):
            text = "%s The same %d layers were repaired again: %d passes since the report at iter %d."
            log.warning(text, _head(origin, step), len(layers), self._reports.repeats, self._reports.since)
            return
        lines = describe(repairs)
        log.warning(
            "%s\n  Auto-sanitized %d BatchNorm statistics. The run is marked altered.",
            _found(origin, step, lines),
            len(lines),
        )

    def _halt(self, step: int) -> None:
        self.halted = True
        text = f"automatic repair halted after max_repairs={self._options.max_repairs} passes"
        log.warning("%s; corrupt statistics now stay as they are", text)
        self._emit(wire.Notice(step=step, time=time.time(), code="repair_halted", text=text))


def _head(origin: wire.Origin, step: int) -> str:
    return HEADS.get(origin, "[HEALTH CHECK] iter {step}:").format(step=step)


def _found(origin: wire.Origin, step: int, lines: Sequence[str]) -> str:
    """A check's finding: how many buffers, and the first of them, a line each."""
    more = [f"... and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return "\n  ".join([f"{_head(origin, step)} Found {len(lines)} corrupted stats!", *lines[:LINES], *more])
