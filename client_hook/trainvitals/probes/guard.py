"""The boundary that must not hurt training: whatever a probe raises ends here."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger("trainvitals")
T = TypeVar("T")
LIMIT = 3  # faults in a row after which a probe is disabled
TOLD = 8  # faults of a probe that fails now and then that are told each; of the others the 16th, the 32nd, ...


class Guard:
    """Runs probes, counts their faults and the training thread's CPU seconds spent in them."""

    def __init__(self, report: Callable[[str, str, bool], None]) -> None:
        self._report = report
        self._faults: Counter[str] = Counter()
        self._streak: Counter[str] = Counter()
        self._disabled = False
        self._depth = 0
        self.cpu = 0.0

    def run(self, probe: str, call: Callable[[], T], default: T) -> T:
        """`call()`, or `default` where it raises or `probe` is disabled."""
        if self._streak[probe] >= LIMIT:
            return default
        start, before = time.thread_time(), self._faults[probe]
        self._depth += 1
        try:
            result = call()
            if self._faults[probe] == before:  # no part of it of the same name has failed within
                self._streak[probe] = 0
            return result
        except Exception as error:  # the promise: nothing raises into training
            self._fault(probe, error)
            return default
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.cpu += time.thread_time() - start

    def take_cpu(self) -> float:
        """CPU seconds since the last call."""
        spent, self.cpu = self.cpu, 0.0
        return spent

    def take_disabled(self) -> bool:
        """Whether a probe was disabled since the last call."""
        disabled, self._disabled = self._disabled, False
        return disabled

    def forgive(self) -> None:
        """The layers are others than before: what was disabled may try again."""
        self._streak.clear()

    def faults(self) -> dict[str, int]:
        """Faults per probe so far."""
        return dict(self._faults)

    def _fault(self, probe: str, error: Exception) -> None:
        self._faults[probe] += 1
        self._streak[probe] += 1
        count, disabled = self._faults[probe], self._streak[probe] >= LIMIT
        self._disabled |= disabled
        if count > TOLD and count & (count - 1) and not disabled:
            return
        text = f"{type(error).__name__}: {error}" + (f" ({count} faults so far)" if count > TOLD else "")
        log.warning("probe %s failed%s: %s", probe, " and is now disabled" if disabled else "", text, exc_info=error)
        self._report(probe, text, disabled)
