"""The whole protocol under everything a network, a disk and two dying processes can do to it, against a model.

Whatever is played, at every moment: what a trainer was told to be safe is in the database; nothing is there twice; all
up to the watermark is stored, set aside, or covered by a gap; and in order. At the end, once nothing is tampered with
any more, everything that was recorded has come."""

import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from both_sides import Channel, CrashError, Server, Trainer, stored
from trainvitals import wire
from trainvitals.delivery import retention
from trainvitals_server.errors import StoreBusyError

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - where fsync costs nothing
SEGMENT = 900  # bytes, so that there are several
BATCH = 5  # records; small, so that a few of them already are several batches
KINDS = st.lists(st.sampled_from(["frame", "frame", "frame", "event", "bad"]), min_size=1, max_size=25)
WHICH = st.integers(0, 2)
ENDS = st.sampled_from(["commit", "commit", "commit", "busy", "dies before", "dies after"])


def raising(error: Exception) -> None:
    """As a function, for lambdas."""
    raise error


class Delivery(RuleBasedStateMachine):
    """Trainers, one after another, of one run; one server."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="trainvitals-machine-", dir=MEMORY))
        self.limits = ExitStack()
        self.limits.enter_context(mock.patch.object(wire, "MAX_BATCH_RECORDS", BATCH))
        self.limits.enter_context(mock.patch.object(retention, "SEGMENT_BYTES", SEGMENT))
        self.cap: int | None = None
        self.server = Server(self.folder / "server" / "test.db")
        self.trainers: list[Trainer] = []
        self.copies: list[Trainer] = []
        self.channels: dict[str, Channel] = {}
        self.backed_up: dict[str, int] | None = None

    @initialize(cap=st.sampled_from([None, 5 * SEGMENT]))
    def first_trainer(self, cap: int | None) -> None:
        """There is one; with room for all it records, or for so little that frames go where the server stays away."""
        self.cap = cap
        self.begin_trainer()

    # --- the trainers -------------------------------------------------------------------------------------------------

    @rule(kinds=KINDS)
    def record(self, kinds: list[str]) -> None:
        """The newest trainer goes on."""
        for kind in kinds:
            self.trainers[-1].record(kind)

    @rule(kinds=KINDS, times=st.integers(5, 15))
    def record_for_long(self, kinds: list[str], times: int) -> None:
        """With no server there; a small spool comes to its end."""
        self._disconnect(self.trainers[-1])
        self.record(kinds * times)

    @precondition(lambda self: len(self.trainers) < 3)
    @rule(torn=st.sampled_from([0, 0, 1, 60, 200]))
    def trainer_dies(self, torn: int) -> None:
        """Perhaps with the machine, which loses the newest bytes. Its spool is found and delivered by somebody else;
        another process goes on with the run."""
        self._disconnect(self.trainers[-1])
        self.trainers[-1].die(torn)
        self.begin_trainer()

    @rule(which=WHICH, torn=st.sampled_from([0, 0, 1, 60]))
    def copy_is_synced(self, which: int, torn: int) -> None:
        """Somebody carried a copy of a spool elsewhere, and delivers it while the trainer, which may live and may have
        gone on, is away. (While it is there, the copy is refused.)"""
        trainer = self.trainers[which % len(self.trainers)]
        self._disconnect(trainer)
        self.copies.append(trainer.copy(self.folder / "copies" / str(len(self.copies)), torn))
        self.copy_is_synced_again(-1)

    @precondition(lambda self: self.copies)
    @rule(which=st.integers(0, 5))
    def copy_is_synced_again(self, which: int) -> None:
        """Perhaps an old one, of which the server has everything and more."""
        copy = self.copies[which % len(self.copies)]
        for trainer in self.trainers:
            if trainer.name == copy.name:
                self._disconnect(trainer)
        self._deliver(copy)
        assert copy.ledger.delivered

    def begin_trainer(self) -> None:
        """Another process."""
        self.trainers.append(Trainer.start(self.folder / "spool", len(self.trainers), self.cap))

    # --- the connections ----------------------------------------------------------------------------------------------

    @rule(which=WHICH)
    def connect(self, which: int) -> None:
        """One that has no connection opens one."""
        trainer = self.trainers[which % len(self.trainers)]
        if trainer.name not in self.channels:
            self.channels[trainer.name] = Channel(trainer, self.server)

    @rule(which=WHICH)
    def connection_breaks(self, which: int) -> None:
        """With all that was on the way."""
        self._disconnect(self.trainers[which % len(self.trainers)])

    @rule(which=WHICH, count=st.integers(1, 4))
    def send(self, which: int, count: int) -> None:
        """As many batches as may be in flight."""
        if channel := self._channel(which):
            for _ in range(count):
                channel.send()

    @rule(which=WHICH, kinds=KINDS)
    def stream(self, which: int, kinds: list[str]) -> None:
        """All goes well for a moment: what was on the way arrives, and new batches are under way."""
        self.record(kinds)
        self.connect(which)
        self.serve(which, "commit", 8)
        self.hear(which, 16)
        self.send(which, 4)

    @rule(which=WHICH, end=ENDS, count=st.integers(1, 4))
    def serve(self, which: int, end: str, count: int) -> None:
        """The server takes what has come: it commits and answers, finds the disk full, or dies on either side of the
        commit."""
        channel = self._channel(which)
        for _ in range(count):
            if channel is None or channel.ended or not channel.to_server:
                return
            fail = {"busy": StoreBusyError("full"), "dies before": CrashError()}.get(end)
            try:
                channel.serve(
                    (lambda: None) if fail is None else lambda fail=fail: raising(fail),
                    (lambda: raising(CrashError())) if end == "dies after" else lambda: None,
                )
            except CrashError:
                self.server_restarts()
                return
            self._forget_ended()

    @rule(which=WHICH, count=st.integers(1, 8))
    def hear(self, which: int, count: int) -> None:
        """The trainer takes what was answered."""
        channel = self._channel(which)
        for _ in range(count):
            if channel is None or channel.ended or not channel.to_trainer:
                return
            channel.hear()
            self._forget_ended()

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    @rule(which=WHICH, back=st.booleans(), place=st.integers(0, 7), how=st.sampled_from(["twice", "swapped", "lost"]))
    def tamper(self, which: int, back: bool, place: int, how: str) -> None:
        """A message comes twice, after the next one, or not at all."""
        channel = self._channel(which)
        if channel is None:
            return
        queue = channel.to_trainer if back else channel.to_server
        if not queue:
            return
        place %= len(queue)
        if how == "twice":
            queue.insert(place, queue[place])
        elif how == "lost":
            del queue[place]
        elif place + 1 < len(queue):
            queue[place], queue[place + 1] = queue[place + 1], queue[place]

    @rule()
    def server_restarts(self) -> None:
        """Every connection breaks, and nothing is remembered that is not in the database."""
        for trainer in self.trainers:
            self._disconnect(trainer)
        self.server.stop()
        self.server.start()

    @rule()
    def back_up(self) -> None:
        """The database is copied."""
        self.server.copy_to(self.folder / "backup.db")
        self.backed_up = {one.name: stored(self.server.connection, one).committed for one in self.trainers}

    @precondition(lambda self: self.backed_up is not None)
    @rule()
    def restore(self) -> None:
        """The copy takes the database's place: what was acked since is gone there, and comes again."""
        for trainer in self.trainers:
            self._disconnect(trainer)
        self.server.restore(self.folder / "backup.db")
        for trainer in self.trainers:
            trainer.acked = min(trainer.acked, (self.backed_up or {}).get(trainer.name, -1))

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def what_was_acked_is_stored(self) -> None:
        """The one promise."""
        for trainer in self.trainers:
            assert trainer.acked <= stored(self.server.connection, trainer).committed

    @invariant()
    def all_up_to_the_watermark_is_accounted_for_once_and_in_order(self) -> None:
        """Stored, set aside, or in a gap; layouts leave no row. What a torn spool ends with has numbers that other
        records had."""
        for trainer in self.trainers:
            there = stored(self.server.connection, trainer)
            numbers = there.numbers()
            known = trainer.kinds[: trainer.kept]
            layouts = {0} - set(numbers)
            assert Counter(numbers) == Counter(set(range(there.committed + 1)) - layouts)
            for one, kind in ((there.frames, "frame"), (there.events, "event"), (there.aside, "bad")):
                assert one == sorted(one)
                assert all(known[seq] == kind for seq in one if seq < len(known))

    def teardown(self) -> None:
        """Nothing goes wrong any more: everything comes."""
        try:
            for trainer in self.trainers:
                self._disconnect(trainer)
                self._deliver(trainer)
                assert trainer.ledger.delivered
                there = stored(self.server.connection, trainer)
                assert trainer.acked == there.committed == trainer.ledger.next - 1
                assert there.committed >= len(trainer.kinds[: trainer.kept]) - 1
                ended = trainer.kept is not None and there.committed >= 0
                assert (there.ending > 0) == ended, "what is told of its end is true"
                if self.cap is None and trainer.kept is None:
                    assert not there.gaps, "there was room for all of it"
            self.all_up_to_the_watermark_is_accounted_for_once_and_in_order()
            assert self.server.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        finally:
            self.limits.close()
            self.server.stop()
            for trainer in [*self.trainers, *self.copies]:
                trainer.end()
            shutil.rmtree(self.folder)

    @staticmethod
    def _ends(channel: Channel) -> bool:
        return not (channel.to_server or channel.to_trainer)

    def _deliver(self, trainer: Trainer) -> None:
        channel = Channel(trainer, self.server)
        while not self._ends(channel):
            while channel.to_server:
                channel.serve()
            while channel.to_trainer:
                channel.hear()
            while channel.send():
                pass

    def _channel(self, which: int) -> Channel | None:
        return self.channels.get(self.trainers[which % len(self.trainers)].name)

    def _disconnect(self, trainer: Trainer) -> None:
        if channel := self.channels.pop(trainer.name, None):
            channel.end()

    def _forget_ended(self) -> None:
        self.channels = {name: one for name, one in self.channels.items() if not one.ended}


QUICK = settings(
    max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_whatever_happens_nothing_acked_is_lost_and_nothing_comes_twice() -> None:
    """Some dozens of stories; `make chaos` plays thousands."""
    run_state_machine_as_test(Delivery, settings=QUICK)


@pytest.mark.chaos
def test_whatever_happens_for_long() -> None:
    """The same, for as long as there is time."""
    run_state_machine_as_test(Delivery, settings=settings(QUICK, max_examples=1500, stateful_step_count=80))
