"""The one writer: a thread that owns the one writing connection.

Work is handed in as functions of a transaction. The thread takes everything that is queued, runs it in one transaction,
commits, has the changes published, and only then answers (group commit; ack after commit). A function that raises
loses its own part only. A database that cannot be written loses nothing but time: everybody is told to come again.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import part, transaction
from trainvitals_server.store.wal import Log

T = TypeVar("T")
MAX_JOBS = 256  # in one transaction ...
MAX_SECONDS = 0.05  # ... none of which begins later than this, so that nobody waits for long
HEALED_SECONDS = 2.0  # without a failure; a full disk may still have room for what is small, but not for frames

log = logging.getLogger("trainvitals.server")


@dataclass
class Job:
    """Work to do, and whom to tell."""

    work: Callable[[Transaction], Any]
    future: Future[Any]
    result: Any = None
    error: Exception | None = None

    def answer(self) -> None:
        """Tell the outcome, on whatever thread this is called."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer(threading.Thread):
    """`begin` is called before each transaction, `undo` after anything in it was rolled back, `publish` with what was
    committed, `finish` with each piece of work that is done and not yet committed, `answer` with the jobs that are to
    be told their outcome; all on this thread."""

    def __init__(
        self,
        database: Database,
        publish: Callable[[Changes], None],
        undo: Callable[[], None],
        clock: Clock,
        *,
        begin: Callable[[], None] = lambda: None,
        finish: Callable[[Transaction], None] = lambda tx: None,
        answer: "Callable[[list[Job]], None] | None" = None,
    ) -> None:
        super().__init__(name="trainvitals-writer", daemon=True)
        self.trouble = ""  # why the database cannot be written now
        self.commits = 0
        self._failed = 0.0
        self._connection = database.writer()  # here, so that a database that cannot be opened is told at once
        self._log = Log(self._connection, database.path)
        self._publish = publish
        self._begin, self._undo = begin, undo
        self._answer = answer or tell
        self._clock = clock
        self._finish = finish
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False

    @property
    def warning(self) -> str:
        """What is wrong with the database although it can be written; "" where nothing is."""
        return self._log.warning

    @property
    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        return self._log.size()

    def state(self) -> dict[str, str]:
        """What to tell people about the database: `trouble` while it cannot be written, and `warning`."""
        return {"trouble": self.trouble, "warning": self.warning}

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Have `work` done in a transaction. The future ends with its result after the commit, with what it raised,
        or with `StoreBusyError`."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        if self._closed:
            future.set_exception(StoreBusyError("the server is going down"))
        else:
            self._jobs.put(Job(work, future))
        return future

    def close(self) -> None:
        """Do what is queued, then end."""
        self._closed = True
        self._jobs.put(None)
        self.join()

    def run(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            self._commit(job)
        self._connection.close()

    def _commit(self, first: Job) -> None:
        tx = Transaction(self._connection, self._clock.now())
        jobs = [first]
        self._begin()
        try:
            self._log.check()
            with transaction(self._connection):
                self._do(tx, first)
                for job in self._more(time.monotonic() + MAX_SECONDS, MAX_JOBS - 1):
                    jobs.append(job)
                    self._do(tx, job)
        except StoreBusyError as error:
            self._give_up(jobs, error)
        except Exception as error:  # whatever it is, the thread lives on and nobody waits in vain
            log.exception("a transaction failed")
            self._give_up(jobs, StoreBusyError(f"the transaction failed: {error}"))
        else:
            self._done(tx.changes)
        self._answer(jobs)
        try:
            self._log.tend()  # nobody waits for this but the next transaction
        except Exception:  # the thread lives on; what is wrong with the disk, the next transaction tells
            log.exception("the log could not be tended")

    def _more(self, until: float, most: int) -> Iterator[Job]:
        """What else is queued, as far as it can be begun by then."""
        for _ in range(most):
            if self._jobs.empty() or time.monotonic() > until:
                return
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)  # nothing is queued behind it; the thread ends after this transaction
                return
            yield job

    def _do(self, tx: Transaction, job: Job) -> None:
        """One job, undone alone where it raises."""
        own = Transaction(tx.connection, tx.now)
        try:
            with part(tx.connection):
                job.result = job.work(own)
                self._finish(own)
        except StoreBusyError:
            raise
        except Exception as error:  # whatever a job raises is its caller's, never the other jobs'
            job.error = error
            if own.booked:  # not because a hello was refused
                self._undo()
        else:
            tx.changes.add(own.changes)

    def _done(self, changes: Changes) -> None:
        """Note a commit. What is on the disk is there, whether or not it could be published."""
        if changes or self._clock.monotonic() > self._failed + HEALED_SECONDS:
            self.trouble = ""
        self.commits += 1
        try:
            self._publish(changes)
        except Exception:
            log.exception("what was committed could not be published")

    def _give_up(self, jobs: list[Job], error: StoreBusyError) -> None:
        self._undo()
        if not self.trouble:
            log.error("%s", error)
        self.trouble = str(error)
        self._failed = self._clock.monotonic()
        jobs += self._more(time.monotonic() + MAX_SECONDS, MAX_JOBS)  # those would only wait for the same
        for job in jobs:
            job.error = StoreBusyError(str(error))


def tell(jobs: list[Job]) -> None:
    """Tell jobs their outcome."""
    for job in jobs:
        job.answer()
