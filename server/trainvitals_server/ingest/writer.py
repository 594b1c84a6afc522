"""The one writer: a thread that owns the one writing connection.

Work is handed in as functions of a transaction. The thread takes everything that is queued, runs it in one transaction,
commits, has the changes published, and only then answers (group commit; ack after commit). A function that raises
loses its own part only. A database that cannot be written loses nothing but time: everybody is told to come again.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import part, transaction

T = TypeVar("T")
MAX_JOBS = 256  # in one transaction, so that nobody waits for long

log = logging.getLogger("trainvitals.server")


@dataclass
class Job:
    """Work to do, and whom to tell."""

    work: Callable[[Transaction], Any]
    future: Future[Any]
    result: Any = None
    error: Exception | None = None

    def answer(self) -> None:
        """Tell the outcome."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer(threading.Thread):
    """`publish` is called with what was committed, `forget` after anything was rolled back, `finish` with each piece of
    work that is done and not yet committed; all on this thread."""

    def __init__(
        self,
        database: Database,
        publish: Callable[[Changes], None],
        forget: Callable[[], None],
        clock: Clock,
        *,
        finish: Callable[[Transaction], None] = lambda tx: None,
    ) -> None:
        super().__init__(name="trainvitals-writer", daemon=True)
        self.trouble = ""  # why the database cannot be written now
        self.commits = 0
        self._connection = database.writer()  # here, so that a database that cannot be opened is told at once
        self._publish = publish
        self._forget = forget
        self._clock = clock
        self._finish = finish
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False

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
        going = True
        while going:
            jobs = [self._jobs.get()]
            while len(jobs) < MAX_JOBS and not self._jobs.empty():
                jobs.append(self._jobs.get())
            going = None not in jobs
            self._commit([job for job in jobs if job is not None])
        self._connection.close()

    def _commit(self, jobs: list[Job]) -> None:
        tx = Transaction(self._connection, self._clock.now())
        try:
            with transaction(self._connection):
                for job in jobs:
                    self._do(tx, job)
        except StoreBusyError as error:
            self._give_up(jobs, error)
        except Exception as error:  # whatever it is, the thread lives on and nobody waits in vain
            log.exception("a transaction failed")
            self._give_up(jobs, StoreBusyError(f"the transaction failed: {error}"))
        else:
            self._done(tx.changes)
        for job in jobs:
            job.answer()

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
            self._forget()
        else:
            tx.changes.add(own.changes)

    def _done(self, changes: Changes) -> None:
        """Note a commit. What is on the disk is there, whether or not it could be published."""
        self.trouble = ""
        self.commits += 1
        try:
            self._publish(changes)
        except Exception:
            log.exception("what was committed could not be published")

    def _give_up(self, jobs: list[Job], error: StoreBusyError) -> None:
        self._forget()
        if not self.trouble:
            log.error("%s", error)
        self.trouble = str(error)
        for job in jobs:
            job.error = StoreBusyError(str(error))
