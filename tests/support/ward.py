"""A real server, a real training, and the network between them, each in a process of its own, to do harm to.

    with ward.fault("server SIGSTOP", "...") as row:
        ward.program.signal(signal.SIGSTOP)
        ward.training.go_on(3.0)
        ward.program.signal(signal.SIGCONT)

At the end of the block the fault is over: everything spooled until then must arrive, the auditor compares, and the row
of the table is filled in.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import planted_server
import watched_training
from auditor import Audit, audit, producer_count, watermark
from fault_table import Row
from ledger import Ledger
from program import Program
from proxy import Proxy
from served import until

WARM = 25  # steps after which a training is under way
WITHHELD = {"COVERAGE_PROCESS_CONFIG"}  # what is measured is not slowed down by being counted
RECOVERY = 30.0  # seconds in which everything must have arrived after a fault


class Training:
    """A watched training in a process of its own; see watched_training.py for the options."""

    def __init__(self, folder: Path, directory: Path, *, plants: Sequence[str] = (), **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ledger = Ledger(folder / "diary")
        self.log = folder / "log"
        prefix, token = options.pop("prefix", []), options.pop("token", "")
        given = {
            "directory": directory,
            "diary": self.ledger.path,
            "stop": folder / "stop",
            "idle": folder / "idle",
            **options,
        }
        command = [*prefix, sys.executable, watched_training.__file__]
        command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
        command += [part for one in plants for part in ("--plant", one)]
        given = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        environment = {**given, **({"TRAINVITALS_TOKEN": token} if token else {})}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def under_way(self) -> "Training":
        """Wait until it trains."""
        until(lambda: self._alive() and len(self.ledger.read().steps) >= WARM, 180)  # torch is slow to load
        return self

    def go_on(self, seconds: float) -> None:
        """Let it train for a while; raises TimeoutError where it stands still for three seconds, or AssertionError
        where it has ended."""
        deadline = time.monotonic() + seconds
        seen, since = len(self.ledger.read().steps), time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(0.02)
            assert self._alive()
            if len(self.ledger.read().steps) > seen:
                seen, since = len(self.ledger.steps), time.monotonic()
            elif time.monotonic() - since > 3.0:
                raise TimeoutError("expected a step within 3 s, the training stands still")

    def rest(self) -> None:
        """Make a step now and then only, until it is told to go on."""
        (self.folder / "idle").touch()

    def resume(self) -> None:
        """After a rest."""
        (self.folder / "idle").unlink(missing_ok=True)
        steps = len(self.ledger.read().steps)
        until(lambda: self._alive() and len(self.ledger.read().steps) > steps + 5)

    def end(self, seconds: float = 60.0) -> int:
        """Ask it to stop, and wait; its exit code."""
        (self.folder / "stop").touch()
        return self.wait(seconds)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait until it has ended."""
        code = self.process.wait(seconds)
        self.ledger.read()
        return code

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.ledger.read()

    def _alive(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return True


class Ward:
    """Everything under `folder`. The trainings use the server's own directory, and its TCP port through the proxy
    where they are told to. A server that is given, as `program`, goes on after the end."""

    def __init__(
        self, folder: Path, plants: Sequence[str] = (), home: Path | None = None, program: Program | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.home = program.directory if program is not None else home or folder / "home"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.program = program or Program(self.home)
        self.program.withheld = WITHHELD
        self._borrowed = program is not None
        if plants:
            self.plant(*plants)
        self.trainings: list[Training] = []
        self._proxy: Proxy | None = None

    def plant(self, *plants: str) -> None:
        """The server has these faults from its next start on."""
        self.program.entry = [planted_server.__file__, *plants, "--"] if plants else ["-m", "trainvitals_server.cli"]

    @property
    def proxy(self) -> Proxy:
        """The network; made when it is first asked for, once the server has a port."""
        if self._proxy is None:
            self._proxy = Proxy(self.program.port)
        return self._proxy

    def use(self, proxy: Proxy) -> None:
        """Another network than the usual one."""
        self._proxy = proxy

    @property
    def training(self) -> Training:
        """The newest."""
        return self.trainings[-1]

    @property
    def database(self) -> Path:
        """The server's."""
        return self.home / "trainvitals.db"

    def train(self, **options: Any) -> Training:
        """Start a training."""
        directory = options.pop("directory", self.home)
        made = Training(self.folder / f"training-{len(self.trainings)}", directory, **options)
        self.trainings.append(made)
        return made

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for training in self.trainings:
            training.kill()
        if self._proxy is not None:
            self._proxy.close()
        if not self._borrowed:
            self.program.signal(signal.SIGCONT)
            self.program.kill()

    def ledgers(self) -> list[Ledger]:
        """Of every training that has written anything, as they are now."""
        return [training.ledger for training in self.trainings if training.ledger.read().run]

    def audit(self, ledgers: Sequence[Ledger] | None = None, by: float = float("inf")) -> Audit:
        """What every training spooled until the time `by`; or those that wrote these ledgers."""
        whole = Audit()
        for ledger in self.ledgers() if ledgers is None else ledgers:
            whole.add(audit(self.database, ledger.run, ledger.producers, by))
        return whole

    def producer_count(self, run: str) -> int:
        """The producers that the database has of a run."""
        return producer_count(self.database, run)

    def committed(self) -> int:
        """The watermark of the newest training's only producer, read from the database."""
        ledger = self.training.ledger.read()
        (name,) = ledger.producers
        return watermark(self.database, ledger.run, name)

    def settle(self, since: float, seconds: float = RECOVERY) -> float:
        """Wait until everything that was spooled by `since` is acknowledged, or in the database where nobody is left
        to be told; how long that took from then on."""
        goals = [
            (training, name, producer.last_by(since))
            for training in self.trainings
            for name, producer in training.ledger.read().producers.items()
        ]
        until(lambda: goals and all(self._has(*goal) for goal in goals), seconds)
        told = [training.ledger.producers[name].acked_at(goal, since) for training, name, goal in goals]
        return max(moment if moment is not None else time.monotonic() for moment in told) - since

    def _has(self, training: Training, name: str, goal: int) -> bool:
        ledger = training.ledger.read()
        if ledger.producers[name].acked >= goal:
            return True
        return training.process.poll() is not None and watermark(self.database, ledger.run, name) >= goal

    @contextmanager
    def fault(self, name: str, promise: str, seconds: float = RECOVERY) -> Iterator[Row]:
        """A row of the table, filled in once the fault is over and everything has arrived."""
        row, begin = Row(name, promise), time.monotonic()
        yield row
        over = time.monotonic()
        took = self.settle(over, seconds)
        row.recovery = took if row.recovery is None else row.recovery
        row.hook = row.hook or self.ledgers()[-1].hook(begin, over)
        row.count(self.audit(by=over))
