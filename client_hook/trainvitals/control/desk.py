"""Receives commands on the background thread and applies them on the training thread.

    received -> refused
    received -> journalled -> delivered -> (safe point) applied -> clean for k steps -> verified
                                                                -> corrupt again     -> failed

The server is not trusted: a command that is not allowed, not meant for this producer, or seen before changes nothing.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trainvitals import wire
from trainvitals.errors import TrainvitalsError
from trainvitals.layers import Norm

log = logging.getLogger("trainvitals")
CLEAN_STEPS = 10  # observed steps without a corrupt statistic that verify a repair
REMEMBERED = 4096  # commands; a server hands one out again only until it expires, 30 s later


class RefusedError(TrainvitalsError):
    """A command will not be carried out; the message says why."""


@dataclass
class Order:
    """A command on its way: `remaining` are the models whose safe point has not come yet."""

    command: wire.Command
    remaining: set[str]
    repairs: list[wire.Repair] = field(default_factory=list)
    undone: int = 0
    applied_at: int = -1
    clean: int = 0


Act = Callable[[Order, set[str], int], dict[str, Any] | None]  # the result, or None while models remain


class Desk:
    """Takes commands in, applies them where it is safe, and reports what became of them."""

    def __init__(
        self,
        identity: wire.Identity,
        models: set[str],
        actions: Mapping[str, Act],
        journal: Path,
        emit: Callable[[wire.Record], None],
    ) -> None:
        self._identity = identity
        self._models = models
        self._actions = actions
        self._journal = journal
        self._emit = emit
        self._lock = threading.RLock()  # a signal handler may come in between, on the same thread
        self._orders: deque[Order] = deque()
        self._watched: list[Order] = []
        self._seen: dict[str, None] = {}  # the latest
        self._closed = False
        self.step = 0

    @property
    def busy(self) -> bool:
        """Whether this thread holds the lock."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition asks it
        return owned

    def receive(self, command: wire.Command) -> None:
        """On the background thread: refuse, or journal and queue."""
        with self._lock:
            known = command.id in self._seen
            self._seen[command.id] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
        if known:
            log.info("command %s came again and was ignored", command.id)
            return
        reason = self._objection(command)
        if reason:
            self._update(command, "refused", self.step, reason)
            return
        try:
            self._write_down(command)
        except OSError as error:
            self._update(command, "refused", self.step, f"the trainer's journal cannot be written: {error}")
            return
        self._update(command, "delivered", self.step)
        with self._lock:
            late = self._closed
            if not late:
                self._orders.append(Order(command, set(self._models)))
        if late:
            self._update(command, "failed", self.step, "the run ended before the next safe point")

    def apply(self, models: set[str], step: int) -> None:
        """At a safe point of `models`: carry out what waits."""
        self.step = step
        if not self._orders:
            return
        with self._lock:
            waiting = list(self._orders)
        for order in waiting:
            if self._carry_out(order, models, step):
                with self._lock:
                    self._orders.remove(order)

    def note(self, step: int, corrupt: set[str]) -> None:
        """An examined step: verifies what was applied before it."""
        for order in [order for order in self._watched if step > order.applied_at]:
            again = corrupt & {repair.layer for repair in order.repairs}
            order.clean += 1
            if again:
                self._watched.remove(order)
                self._update(order.command, "failed", step, f"corrupt again at step {step}: {', '.join(sorted(again))}")
            elif order.clean >= CLEAN_STEPS:
                self._watched.remove(order)
                self._update(order.command, "verified", step, f"clean for {CLEAN_STEPS} steps")

    def close(self) -> None:
        """The run ends: what waits fails, what was clean so far is said to be."""
        with self._lock:
            self._closed = True
            waiting, self._orders = list(self._orders), deque()
        for order in waiting:
            self._update(order.command, "failed", self.step, "the run ended before the next safe point")
        for order in self._watched:
            if order.clean:
                self._update(order.command, "verified", self.step, f"the run ended after {order.clean} clean steps")
        self._watched.clear()

    def _objection(self, command: wire.Command) -> str:
        if command.producer != self._identity.producer:
            return f"meant for producer {command.producer}, this is {self._identity.producer}"
        if command.action not in self._identity.allow:
            return f"this trainer allows {', '.join(self._identity.allow) or 'no actions'}, not {command.action}"
        if command.ttl <= 0:
            return "it expired on the way"
        if self._closed:
            return "the run is ending"
        return ""

    def _carry_out(self, order: Order, models: set[str], step: int) -> bool:
        command = order.command
        try:
            result = self._actions[command.action](order, models, step)
        except RefusedError as refusal:
            self._update(command, "refused", step, str(refusal))
            return True
        except Exception as error:
            log.warning("command %s failed: %s", command.id, error, exc_info=error)
            self._update(command, "failed", step, f"{type(error).__name__}: {error}")
            return True
        if result is None:
            return False
        order.applied_at = step
        self._update(command, "applied", step, result=result)
        if command.dry_run or not order.repairs:
            self._update(command, "verified", step, "nothing was changed" if command.action == "sanitize" else "")
        else:
            self._watched.append(order)
        return True

    def _write_down(self, command: wire.Command) -> None:
        line = msgspec.json.encode({"id": command.id, "action": command.action, "time": time.time()}) + b"\n"
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _update(
        self,
        command: wire.Command,
        state: wire.CommandState,
        step: int,
        reason: str = "",
        result: dict[str, Any] | None = None,
    ) -> None:
        self._emit(
            wire.CommandUpdate(
                step=step, time=time.time(), id=command.id, state=state, reason=reason, result=result or {}
            )
        )


def select(norms: list[Norm], models: set[str], layers: list[str] | None) -> list[Norm]:
    """The norms of `models` that a command names. Raises RefusedError for a layer that does not exist."""
    unknown = set(layers or ()) - {norm.name for norm in norms}
    if unknown:
        raise RefusedError(f"layers: expected names of layers with running statistics, got {sorted(unknown)[0]!r}")
    return [norm for norm in norms if norm.model in models and (layers is None or norm.name in layers)]
