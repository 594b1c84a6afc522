"""The producers of a watched run, one after another: where records go, and where commands come from.

A producer is one process's strictly increasing steps. Where they go back, another one begins; the earlier one's records
are still delivered, by its own courier, which then ends.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from trainvitals import wire
from trainvitals.control.desk import Act, Desk
from trainvitals.delivery.depot import Depot, new_identity
from trainvitals.delivery.survey import SUPERSEDED
from trainvitals.options import Options


class Producer:
    """The producer now, of run `run`. `put` never waits and never raises; nothing is open before `begin`."""

    def __init__(self, run: str, options: Options, token: str | None, models: set[str]) -> None:
        self._run = run
        self.follows = False  # as far as it is known before the first forward
        self._successions = 0
        self._options = options
        self._token = token
        self._models = models
        self._base = Path()
        self._actions: Mapping[str, Act] = {}
        self._depot: Depot | None = None
        self._desk: Desk | None = None
        self._retired: list[Depot] = []  # of which some may still deliver
        self._dropped = self._quarantined = 0  # by those that do no more

    def begin(self, base: Path, actions: Mapping[str, Act], first: wire.Record) -> None:
        """Open the first producer under `base`; `first` is its first record. Raises ConfigurationError."""
        self._base, self._actions = base, actions
        self._open(first)

    def succeed(self, first: wire.Record, step: int) -> None:
        """Another producer begins after `step`; the earlier one ends once its records are delivered."""
        previous = self._depot
        self._successions += 1
        if self._desk is not None:
            self._desk.close()
        self._open(first)
        if previous is not None:
            text = "the steps went back; another producer of this process goes on"
            previous.put(wire.Notice(step=step, time=time.time(), code=SUPERSEDED, text=text))
            previous.courier.retire()
            self._forget()
            self._retired.append(previous)

    def put(self, record: wire.Record) -> None:
        """Queue a record."""
        if self._depot is not None:
            self._depot.put(record)

    def flush(self) -> None:
        """Wait a moment until what is queued is on the disk."""
        if self._depot is not None:
            self._depot.courier.flush()

    def apply(self, models: set[str], step: int) -> None:
        """At a safe point of `models`: carry out the commands that wait."""
        if self._desk is not None:
            self._desk.apply(models, step)

    def note(self, step: int, corrupt: set[str]) -> None:
        """An examined step: verifies the commands that were applied before it."""
        if self._desk is not None:
            self._desk.note(step, corrupt)

    def stop_commands(self) -> None:
        """No command is taken any more; those that wait are answered."""
        if self._desk is not None:
            self._desk.close()

    def stop(self) -> None:
        """Begin to deliver what is left; does not wait."""
        for depot in self._retired:
            depot.courier.stop(0.0)
        if self._depot is not None:
            self._depot.stop()

    def wait(self, timeout: float) -> bool:
        """Wait until it is delivered; True if the server has everything of this producer."""
        for depot in self._retired:
            depot.courier.wait(0.0)
        return self._depot is None or self._depot.courier.wait(timeout)

    def abandon(self) -> None:
        """In a forked child: the parent's threads and files are none of ours."""
        self._depot, self._desk, self._retired = None, None, []

    @property
    def folder(self) -> Path | None:
        """Where its spool lies."""
        return self._depot.folder if self._depot else None

    @property
    def dropped(self) -> int:
        """Records lost here, by all of them."""
        return self._dropped + sum(depot.dropped for depot in self._all())

    @property
    def quarantined(self) -> int:
        """Records that the server refused for good, of all of them."""
        return self._quarantined + sum(depot.quarantined for depot in self._all())

    @property
    def connected(self) -> bool:
        """Whether a server is listening now."""
        return self._depot is not None and self._depot.courier.connected

    @property
    def busy(self) -> bool:
        """Whether this thread is in the middle of handing something over; for signal handlers."""
        return any(one is not None and one.busy for one in (self._depot, self._desk))

    def _all(self) -> list[Depot]:
        return self._retired if self._depot is None else [*self._retired, self._depot]

    def _forget(self) -> None:
        """Let go of those that have ended, but for what they lost."""
        over = [depot for depot in self._retired if not depot.courier.running]
        self._dropped += sum(depot.dropped for depot in over)
        self._quarantined += sum(depot.quarantined for depot in over)
        self._retired = [depot for depot in self._retired if depot not in over]

    def _open(self, first: wire.Record) -> None:
        identity = new_identity(self._run, self._options, self._successions, self.follows)
        depot = Depot(identity, self._base, self._options, self._token, self._receive)
        self._desk = Desk(identity, self._models, self._actions, depot.folder / "journal", depot.put)
        self._depot = depot
        depot.put(first)
        depot.start()

    def _receive(self, command: wire.Command) -> None:
        """On the background thread."""
        if self._desk is not None:
            self._desk.receive(command)
