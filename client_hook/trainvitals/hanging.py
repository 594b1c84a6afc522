"""Where training hangs: no step has ended for long, and the stack of the training thread says why.

A thread of its own looks every `LOOK` seconds at a counter that the training thread keeps anyway; between two steps it
costs nothing. A validation or a save ends no step and is no hang: it is only said to be under way, in time for the
server not to call the run stalled. Nor is it one where the whole process stood still (Ctrl-Z, a paused container),
which shows in a look that comes late. A hang is told once; the next step ends it.
"""

import statistics
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from trainvitals.steps import Steps
from trainvitals.validation import Validation

LOOK = 5.0  # seconds between two looks
LATE = 10.0  # seconds between two looks after which the process itself stood still in between
BUSY = 15.0  # seconds without a step after which a validation or a save is announced: half of what a server waits
HUNG = 30.0  # seconds without a step after which training hangs, ...
SLOW = 10  # ... where that is also so many median steps
PATIENT = 600.0  # seconds without anything that ended, in a validation or a save
REMEMBERED = 64  # looks, for the median step
FRAMES = 15  # of the stack, the innermost
LONGEST = 8000  # characters

Tell = Callable[[str, str], None]  # code and text of a notice


class Progress(NamedTuple):
    """What the training thread has done: `steps` ended so far, when the last did (monotonic seconds; None before the
    first), its number, the thread's ident, anything else that moves on between two steps (validation batches), and
    what is under way instead of a step, in words; "" for a step."""

    steps: int
    ended: float | None
    step: int
    thread: int
    beside: int = 0
    doing: str = ""


class Hanging:
    """Judges what it is shown, every few seconds."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._seen: Progress | None = None
        self._moved = 0.0  # when something last did; later by what the process stood still since then
        self._looked = 0.0
        self._said: set[str] = set()  # codes, since then
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    def look(self, seen: Progress, now: float) -> None:
        """Compare with the last look, and tell what is due. `now` is monotonic seconds."""
        before, self._seen = self._seen, seen
        since, self._looked = now - self._looked, now
        if before is None or seen != before:
            self._note(seen, before, now)
            if since > LATE:
                self._moved = now
            return
        if since > LATE:
            self._moved += since
        still = now - self._moved
        if seen.ended is None:
            return  # the first step may take what it needs: compiling, loading
        if seen.doing:
            if still >= BUSY:
                self._once("busy", f"{seen.doing}; no step ends until it is over")
            if still > PATIENT:
                self._once("hung", f"{seen.doing}, and nothing of it ended for {_span(still)}", seen.thread)
        elif still > HUNG and still > SLOW * self._median():
            self._once("hung", f"no step ended for {_span(still)} after step {seen.step:,}", seen.thread)

    def _note(self, seen: Progress, before: Progress | None, now: float) -> None:
        """Something moved."""
        if before is not None and seen.steps > before.steps and seen.ended is not None and before.ended is not None:
            self._took.append((seen.ended - before.ended) / (seen.steps - before.steps))
        stepped = before is None or seen.steps != before.steps
        if before is None or stepped or before.doing != seen.doing:
            self._said.clear()
        self._moved = seen.ended if stepped and seen.ended is not None else now

    def _median(self) -> float:
        return statistics.median(self._took) if self._took else 0.0

    def _once(self, code: str, text: str, thread: int | None = None) -> None:
        if code not in self._said:
            self._said.add(code)
            self._tell(code, text if thread is None else f"{text}\n{stack_of(thread)}"[:LONGEST])


def stack_of(thread: int) -> str:
    """The innermost frames of a thread, the innermost last; without its variables. "" where it is gone."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_list(traceback.extract_stack(frame)[-FRAMES:]))


class Lookout:
    """The thread that looks at `steps`, and tells by `notify`. It ends by `stop`, with the process, or with the watch,
    of which it holds nothing."""

    def __init__(self, steps: Steps, notify: Tell) -> None:
        self.validation: Validation | None = None  # under way
        self.saving = False
        self._steps = weakref.ref(steps)
        self._notify = weakref.WeakMethod(notify)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainvitals-lookout", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        hanging = Hanging(self._tell)
        while not self._over.wait(LOOK):
            steps = self._steps()
            if steps is None:
                return
            hanging.look(self.progress(steps), time.monotonic())
            del steps  # not kept alive while this thread waits

    def progress(self, steps: Steps) -> Progress:
        """What has been done so far."""
        validation, doing = self.validation, ""
        if validation is not None:
            doing = f"validation began at step {validation.step:,}"
        elif self.saving:
            doing = f"a save began at step {steps.last:,}"
        beside = 0 if validation is None else validation.begun
        return Progress(steps.ended, steps.ended_at, steps.last, steps.thread, beside, doing)

    def _tell(self, code: str, text: str) -> None:
        notify = self._notify()
        if notify is not None:
            notify(code, text)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
