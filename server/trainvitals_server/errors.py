"""The errors of the server.

ServerError: base of every error raised on purpose by this package
├── SettingsError (also ValueError): the server cannot be started like this
├── StoreBusyError: the database cannot be used now (locked, disk full); the same again later may succeed
│   ├── SlowReadError: a read was ended because it took too long
│   └── SchemaError: the database is none of this program's; it is left alone
│       └── NewerSchemaError: a newer program made or changed it
├── FileRefusedError: a file that was to be imported or opened is not what it should be; nothing was changed
│   └── RunExistsError: it holds a run that is there already
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


class SchemaError(StoreBusyError):
    """The database holds something else than this program keeps; it was not changed."""


class NewerSchemaError(SchemaError):
    """The database was written by a newer program; the message names both versions."""


class FileRefusedError(ServerError):
    """A file of a run that cannot be taken in; the message is one line."""


class RunExistsError(FileRefusedError):
    """A run of this id is there already."""


class RefusedError(ServerError):
    """A request that cannot be granted: an HTTP status and one line that says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
