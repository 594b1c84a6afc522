"""The three tokens: ingest for trainers, view for readers, control for who may act. One file each, mode 0600."""

import hashlib
import hmac
import secrets
from pathlib import Path

from trainvitals import home

ROLES: tuple[home.Role, ...] = ("ingest", "view", "control")


class Tokens:
    """The tokens kept in a directory, made where they are missing. In memory there are only their hashes."""

    def __init__(self, directory: Path) -> None:
        self._hashes = {role: digest(_ensure(directory, role)) for role in ROLES}

    def role_of(self, token: str) -> home.Role | None:
        """Whose token this is. Takes the same time whatever comes."""
        given, found = digest(token), None
        for role, known in self._hashes.items():
            if hmac.compare_digest(given, known):
                found = role
        return found

    @property
    def fingerprint(self) -> str:
        """The control token's hash: sessions minted under another one are void."""
        return self._hashes["control"]


def digest(secret: str) -> str:
    """SHA-256, in hexadecimal. Enough for secrets of 256 random bits, which nobody can guess one by one."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _ensure(directory: Path, role: home.Role) -> str:
    token = home.read_token(directory, role)
    if token is None:
        token = secrets.token_hex(32)  # never begins with a dash, which a command line would take for an option
        home.write_private(directory / f"{role}.token", f"{token}\n".encode())
    return token
