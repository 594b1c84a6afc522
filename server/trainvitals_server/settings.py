"""How one server is set up. Settings are checked when they are made, so that a wrong one never opens a socket."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from trainvitals import home
from trainvitals_server.errors import SettingsError
from trainvitals_server.life.retention import Retention
from trainvitals_server.notifications.targets import open_targets

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where to listen and where to keep things. `port` 0 takes a free one; `directory` and `db` default to the
    per-user directory and a database in it; `public_hosts` are the names browsers may use for this server, beside
    those of the loopback; `retain` says which runs are deleted in time; `notify` are the addresses that messages about
    alerts are sent to; `spools` are further folders whose spools it takes in. Raises `SettingsError`."""

    host: str = "127.0.0.1"
    port: int = 8787
    directory: Path = field(default_factory=home.home)
    db: Path | None = None
    behind_proxy: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    public_hosts: tuple[str, ...] = ()
    retain: Retention = field(default_factory=Retention)
    notify: tuple[str, ...] = field(default=(), repr=False)  # addresses hold secrets
    spools: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"expected a port from 0 to 65535, got {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("expected a TLS certificate and its key, got only one of them")
        for folder in self.spools:
            if not folder.is_dir():
                raise SettingsError(f"expected a folder of spools, got {str(folder)!r}, which is none")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise SettingsError(f"expected a PEM file, got {str(file)!r}, which is not a file")
        if not (is_loopback(self.host) or self.tls or self.behind_proxy):
            raise SettingsError(f"expected a loopback address, TLS or --behind-proxy, got host {self.host!r} without")
        open_targets(self.notify)

    @property
    def tls(self) -> bool:
        """Whether this server encrypts by itself."""
        return self.tls_cert is not None

    @property
    def database(self) -> Path:
        """The database file."""
        return self.db if self.db is not None else self.directory / "trainvitals.db"


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine and nothing else."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
