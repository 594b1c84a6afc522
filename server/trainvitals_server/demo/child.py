"""A child process: started with this interpreter, listened to line by line, ended by its id."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

GRACE = 10.0  # seconds between asking a child to end and ending it

# A user's own settings must not lead the demonstration to another server, token or run, nor call anybody out for it.
PRIVATE = (
    "TRAINVITALS_SERVER",
    "TRAINVITALS_TOKEN",
    "TRAINVITALS_MODE",
    "TRAINVITALS_RUN_ID",
    "TRAINVITALS_DIR",
    "TRAINVITALS_ALERT_URLS",
)


class Child:
    """A running child. It is in a session of its own, so that Ctrl-C reaches its parent alone, which then ends it."""

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in PRIVATE}
        self._last_line = ""
        self._on_line = on_line
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own programs
            [sys.executable, *arguments],
            env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name=f"child {self.pid}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last line it said, without the name our own programs begin an error with."""
        return self._last_line.removeprefix("trainvitals: ") or "it said nothing"

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, waited for at most `seconds`; when there is one, every line has been heard."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join(GRACE)
        return code

    def stop(self) -> None:
        """End it: asked first, then not asked. Does nothing where it has ended."""
        self._process.terminate()
        if self.wait(GRACE) is None:
            self._process.kill()
            self.wait(GRACE)

    def _listen(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream:
            for line in stream:
                self._last_line = line.strip() or self._last_line
                self._on_line(line.rstrip())
