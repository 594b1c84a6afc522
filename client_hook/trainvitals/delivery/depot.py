"""One producer's delivery, put together: identity, folder, outbox, spool and courier."""

import os
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from trainvitals import __version__, wire
from trainvitals.delivery.courier import Courier
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.retention import given_cap
from trainvitals.delivery.spool import Spool
from trainvitals.errors import ConfigurationError
from trainvitals.options import Options, plain


class Depot:
    """Where a producer's records go. `put` never waits and never raises."""

    def __init__(
        self,
        identity: wire.Identity,
        base: Path,
        options: Options,
        token: str | None,
        on_command: Callable[[wire.Command], None],
    ) -> None:
        self.identity = identity
        self.folder = base / "spool" / identity.run / identity.producer
        self._outbox = Outbox()
        cap = given_cap()
        try:
            self._spool = Spool(self.folder, identity, cap)
        except OSError as error:
            raise ConfigurationError(f"directory: expected a writable folder, got {base}: {error}") from error
        self.courier = Courier(
            self._spool,
            self._outbox,
            base=base,
            server=options.server,
            token=token,
            online=options.mode == "online",
            on_command=on_command,
        )

    def start(self) -> None:
        """Begin to deliver."""
        self.courier.start()

    def put(self, record: wire.Record) -> None:
        """Queue a record."""
        self._outbox.put(record)

    def stop(self) -> None:
        """Begin to close; does not wait."""
        self.courier.stop()

    @property
    def quarantined(self) -> int:
        """Records that the server refused for good."""
        return self._spool.quarantined

    @property
    def busy(self) -> bool:
        """Whether this thread holds the queue's lock."""
        return self._outbox.busy

    @property
    def dropped(self) -> int:
        """Records that were lost: before they were numbered, and by the spool's cap."""
        return self._outbox.dropped + self._spool.retention.lost


def new_identity(run: str, options: Options, succession: int = 0, follows: bool = False) -> wire.Identity:
    """A new producer of `run`: this process, from now on; the `succession`-th of this process, as of the other ranks',
    whose steps go back together."""
    place = options.place
    return wire.Identity(
        run=run,
        producer=uuid.uuid4().hex,
        name=options.name,
        project=options.project,
        config=plain(options.config),
        rank=place.rank,
        world_size=place.world_size,
        launch=f"{place.launch}.{succession}" if place.launch else "",
        follows=follows,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=time.time(),
        allow=list(options.allow),
        auto_sanitize=options.auto_sanitize,
        versions={
            "trainvitals": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "platform": sys.platform,
        },
    )


def new_run_id() -> str:
    """A name that sorts by time and does not collide: 20261123-071401-3f9a1c."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:6]
