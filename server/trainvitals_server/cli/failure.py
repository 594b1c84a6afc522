"""How a verb says that it could not do what it was asked, and how that is printed."""

import sys

from trainvitals_server.cli.text import safe
from trainvitals_server.errors import ServerError


class Failure(ServerError):  # noqa: N818 - it ends a verb, as `SystemExit` ends a program
    """A verb could not do what it was asked: one line for stderr, and the exit code."""

    def __init__(self, line: str, code: int = 1) -> None:
        super().__init__(line)
        self.code = code


def warn(line: str) -> None:
    """Write one line to stderr, whatever it is made of."""
    print(f"trainvitals: {safe(' '.join(line.split()))}", file=sys.stderr)
