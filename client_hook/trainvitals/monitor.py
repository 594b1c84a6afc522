"""A watched run: everything put together around the user's loop.

    with trainvitals.watch(model, optimizer, scaler=scaler, name="wavessm") as watch:
        for step, batch in enumerate(loader):
            ...
            watch.step(loss=loss)

After construction nothing here raises into training.
"""

import logging
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals import ending, wire
from trainvitals.checkpoint import CheckpointResult
from trainvitals.control.actions import actions
from trainvitals.control.desk import RefusedError
from trainvitals.delivery.address import find_address
from trainvitals.delivery.courier import DRAIN
from trainvitals.errors import ConfigurationError
from trainvitals.evaluated import Evaluated
from trainvitals.following import Following
from trainvitals.hanging import Lookout
from trainvitals.home import home
from trainvitals.hooks import listen_to_load
from trainvitals.layers import unwrap
from trainvitals.options import Options
from trainvitals.probes.guard import Guard
from trainvitals.producer import Producer
from trainvitals.record.observation import Observation
from trainvitals.repair.keeper import Keeper
from trainvitals.saving import Saver
from trainvitals.steps import Steps
from trainvitals.training import Training
from trainvitals.validation import Validation
from trainvitals.vitals import Vitals

log = logging.getLogger("trainvitals")


def _folder(directory: str | os.PathLike[str] | None) -> Path:
    try:
        return home(directory)
    except OSError as error:
        raise ConfigurationError(f"directory: expected a writable folder, got {directory}: {error}") from error


class Watch(AbstractContextManager["Watch"]):
    """One watched run, as `watch` makes it."""

    def __init__(
        self,
        training: Training,
        options: Options,
        run: str,
        token: str | None,
        directory: str | os.PathLike[str] | None,
    ) -> None:
        self.models = training.models
        self.run_id = run
        self._training = training
        self.closed = False
        self.should_stop = False
        self._options = options
        self._token = token
        self._following = Following(training.models)
        self._producer = Producer(run, options, token, set(training.models))
        self._guard = Guard(self._report_fault)
        self._vitals = Vitals(
            training, options, self._guard, self._producer.put, lambda: self._producer.folder, self._following
        )
        self._keeper = Keeper(self._vitals, training.ema, options, self._producer.put)
        self._saver = Saver(run, training, self._keeper, self._producer.put)
        self._steps = Steps(
            training,
            self._vitals,
            self._guard,
            start=options.start_step,
            every=options.every,
            health_every=options.health_every,
            safe_point=self._safe_point,
        )
        self._vitals.examiner.on_statistics = self._note
        self._lookout = Lookout(self._steps, self.notify)
        self._newest = -1
        self._validating = 0  # validations entered and not left
        self._loads: list[RemovableHandle] = []
        self.enabled = options.mode != "disabled"
        if self.enabled:
            self._base = _folder(directory)
            table = actions(self._vitals, self._keeper, self._save_on_command, self._stop_on_command)
            self._producer.follows = self._keeper.follows_altogether
            self._producer.begin(self._base, table, self._starting())
            self._steps.attach()
            self._following.attach()
            self._loads = [listen_to_load(self, unwrap(model)) for model in training.models.values()]
            for model in training.models.values():  # what was loaded before `watch`
                self.on_load(unwrap(model))
            ending.follow(self)
            self._lookout.start()
            log.info("watching %s, run %s%s", options.name, run, f": {self.url}" if self.url else "")

    # --- what the user calls --------------------------------------------------------------------------------------

    def step(self, step: int | None = None, loss: Any = None, output: Any = None, **metrics: Any) -> None:
        """The step ends here. `loss` and `metrics` may be tensors (not `.item()`, which would wait for the device)."""
        if not self.enabled or self.closed:
            return
        number = self._guard.run("step number", lambda: None if step is None else int(step), None)
        if number is not None and number == self._newest:
            return  # still the same step
        if number is not None and number < self._newest:
            self._guard.run("producer", self._succeed, None)
        self._steps.end(number, loss, output, metrics)
        self._newest = max(self._newest, self._steps.last)

    def validation(self, total: int | None = None, model: nn.Module | None = None) -> Validation:
        """Enter a validation: a safe point. The model evaluated (`model`, else the watched ones) is checked, and
        repaired where automatic repair is on."""
        if self.enabled and not self.closed:
            self._guard.run("step", self._steps.notice_skip, None)
        evaluated = Evaluated(self._training, self._keeper, model)
        return Validation(
            self._steps.last,
            total,
            lambda val: self._guard.run("validation", lambda: self._begin_validation(val, evaluated), None),
            lambda val: self._guard.run("validation", lambda: self._end_validation(val, evaluated), None),
            evaluated.name,
        )

    def save_checkpoint(
        self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None, metric: float | None = None
    ) -> CheckpointResult:
        """Save model, optimizer, scaler, scheduler and random states atomically, after repairing statistics where that
        is on; refuses corrupt states. With `metric` (higher is better) the best one is also kept as STEM_best.pth."""
        if self.enabled and not self.closed:
            self._guard.run("step", self._steps.notice_skip, None)
        self._lookout.saving = True
        try:
            return self._saver.save(Path(path), self._steps.last, dict(extra or {}), metric, repair=self.enabled)
        except Exception as error:  # the promise: nothing raises into training
            log.warning("checkpoint %s could not be saved: %s", path, error, exc_info=error)
            return CheckpointResult("failed", Path(str(path)), reason=f"{type(error).__name__}: {error}")
        finally:
            self._lookout.saving = False

    def close(self) -> None:
        """The run is finished: deliver what is left (at most 5 s; the rest stays in the spool) and let go of the
        model. May be called again."""
        self.end("finished", "closed", "", "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if error is None:
            self.close()
        else:
            self.end(*ending.describe(error))
        return False

    @property
    def best_metric(self) -> float | None:
        """The best metric of a saved checkpoint so far; `watch(resume=loaded)` takes it up, so that a worse one does
        not take the best one's place."""
        return self._saver.best

    @best_metric.setter
    def best_metric(self, value: float | None) -> None:
        self._saver.best = value

    @property
    def url(self) -> str:
        """Where to look at this run; "" while no server is known."""
        if not self.enabled:
            return ""
        address = find_address(self._base, self._options.server, self._token)
        return f"{address.url}/runs/{self.run_id}" if address else ""

    @property
    def spool_path(self) -> Path | None:
        """The folder of this producer's spool."""
        return self._producer.folder

    @property
    def dropped(self) -> int:
        """Records and steps lost so far, here; never in silence: gaps are recorded too."""
        return self._producer.dropped + self._vitals.dropped

    @property
    def quarantined(self) -> int:
        """Records that the server refused for good; they are kept in the file `quarantine` in `spool_path`."""
        return self._producer.quarantined

    @property
    def nan_grad_steps(self) -> int:
        """Observed steps so far in which some gradient was not finite, whether the grad scaler skipped them or not."""
        return self._vitals.examiner.nan_grad_steps

    @property
    def steps_ended(self) -> int:
        """How many steps have ended in this process."""
        return self._steps.ended

    @property
    def busy(self) -> bool:
        """Whether this thread is in the middle of handing a record over; for signal handlers."""
        return self._producer.busy

    @property
    def state(self) -> str:
        """disabled, spooling (no server reached), streaming or closed."""
        if not self.enabled:
            return "disabled"
        if self.closed:
            return "closed"
        return "streaming" if self._producer.connected else "spooling"

    def on_load(self, module: nn.Module) -> None:
        """A state dict was loaded: a safe point, and the place where a corrupt checkpoint comes in."""
        models = {key for key, model in self.models.items() if unwrap(model) is module}
        if models and self.enabled and not self.closed:
            self._guard.run("repair", lambda: self._keeper.inspect("load", self._steps.last, models), None)

    # --- how it ends ----------------------------------------------------------------------------------------------

    def end(self, state: str, reason: str, error: str, trace: str) -> None:
        """Record how the run ended, deliver, detach. Idempotent, and raises nothing."""
        if self.conclude(state, reason, error, trace):
            self.deliver(DRAIN)

    def conclude(self, state: str, reason: str, error: str, trace: str) -> bool:
        """The first half of `end`: everything but waiting; whether there is something to wait for."""
        if self.closed:
            return False
        self.closed = True
        if not self.enabled:
            return False
        try:
            self._lookout.stop()
            self._guard.run("step", self._steps.settle, None)
            self._guard.run("step", self._vitals.finish, None)
            self._detach()
            self._guard.run("commands", self._producer.stop_commands, None)
        finally:  # also where Ctrl-C comes in between: a run whose end is not told is a run that is lost
            self._producer.put(self._ended(state, reason, error, trace))
            self._producer.stop()
        return True

    def deliver(self, timeout: float) -> None:
        """The second half: wait at most `timeout` seconds until the server has everything."""
        try:
            done = self._producer.wait(timeout)
        except BaseException:  # Ctrl-C: whoever waits does not want to, but the end is to be on the disk
            self._producer.flush()
            raise
        if not done:
            log.info("the server does not have all of run %s yet; it is kept in %s", self.run_id, self.spool_path)

    def abandon(self) -> None:
        """In a forked child: no hook does anything, no thread exists, the parent's files are not touched."""
        self.enabled, self.closed = False, True
        self._producer.abandon()
        self._detach()

    def notify(self, code: str, text: str) -> None:
        """Something about the process that the reader of the run must know; what is queued goes to the disk."""
        self._producer.put(wire.Notice(step=self._steps.last, time=time.time(), code=code, text=text))
        self._producer.flush()

    def _detach(self) -> None:
        self._steps.detach()
        self._following.detach()
        for handle in self._loads:
            handle.remove()
        self._loads.clear()

    # --- wiring ---------------------------------------------------------------------------------------------------

    def _starting(self) -> wire.Lifecycle:
        return wire.Lifecycle(step=self._steps.step, time=time.time(), state="starting")

    def _ended(self, state: str, reason: str, error: str, trace: str) -> wire.Lifecycle:
        known = cast("Literal['finished', 'failed']", state)
        said = {"reason": reason, "error": error, "traceback": trace}
        return wire.Lifecycle(step=self._steps.last, time=time.time(), state=known, **said)

    def _succeed(self) -> None:
        """The steps go back: from here on it is another producer of the same run."""
        self._steps.settle()
        self._vitals.advance()
        self._newest = -1
        self._producer.succeed(self._starting(), self._steps.last)
        self._vitals.announce_again()

    def _safe_point(self, models: set[str]) -> None:
        self._keeper.automatic_pass(self._steps.last, models)
        self._producer.apply(models, self._steps.last)

    def _note(self, seen: Observation, corrupt: set[str]) -> None:
        self._keeper.note(seen, corrupt)
        if corrupt or self._vitals.examiner.broke:
            self._steps.note_break()
        self._producer.note(seen.step, corrupt)

    def _begin_validation(self, validation: Validation, evaluated: Evaluated) -> None:
        if not self.enabled or self.closed:
            return
        self._validating += 1
        self._lookout.validation = validation
        self._steps.paused = True
        try:
            self._safe_point(set(self.models))
            self._keeper.inspect("validation", validation.step, set(self.models), also=evaluated.model)
        finally:
            validation.tainted = evaluated.is_corrupt()
            evaluated.begin()

    def _end_validation(self, validation: Validation, evaluated: Evaluated) -> None:
        self._validating = max(self._validating - 1, 0)
        self._steps.paused = self._validating > 0
        if not self._validating:
            self._lookout.validation = None
        if self.enabled and not self.closed:
            validation.tainted |= evaluated.is_corrupt()
            self._producer.put(validation.event())
            evaluated.end(validation.step)

    def _report_fault(self, probe: str, error: str, disabled: bool) -> None:
        step = self._steps.step
        fault = wire.ProbeFault(step=step, time=time.time(), probe=probe, error=error, disabled=disabled)
        self._producer.put(fault)

    def _save_on_command(self) -> dict[str, Any]:
        if self._vitals.signs.sharded:
            raise RefusedError("save_checkpoint: a sharded model is saved by all of its ranks together, from the loop")
        step = self._steps.last
        path = self._saver.last_path or self._base / "checkpoints" / f"{self.run_id}.pth"
        result = self._saver.save(path.with_name(f"{path.stem}_step{step}{path.suffix}"), step, {}, None, repair=True)
        return {"outcome": result.outcome, "path": str(result.path), "reason": result.reason}

    def _stop_on_command(self) -> None:
        self.should_stop = True
