"""The errors of the server.

ServerError: base of every error raised on purpose by this package
├── SettingsError (also ValueError): the server cannot be started like this
├── StoreBusyError: the database cannot be used now (locked, disk full); the same again later may succeed
│   └── SlowReadError: a read was ended because it took too long
└── RefusedError: a request that gets an answer of 4xx; `status` and one line
"""


class ServerError(Exception):
    """Base of every error raised on purpose by the server."""


class SettingsError(ServerError, ValueError):
    """The server cannot be started with these settings; the message is one line."""


class StoreBusyError(ServerError):
    """The database cannot be opened, written or read now."""


class SlowReadError(StoreBusyError):
    """A read took longer than reads may."""


class RefusedError(ServerError):
    """A request that cannot be granted: an HTTP status and one line that says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
