"""The settings of one `watch`, checked."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trainvitals import wire
from trainvitals.delivery.address import check_url
from trainvitals.errors import ConfigurationError
from trainvitals.ranks import Place

Mode = Literal["online", "offline", "disabled"]
AutoSanitize = Literal["restore", "reset", "off"]


@dataclass(frozen=True)
class Options:
    """As the arguments of `watch`, and this process's place. Raises ConfigurationError naming what was expected and
    what came."""

    name: str = "run"
    project: str = "default"
    config: dict[str, Any] = field(default_factory=dict)
    every: int = 1
    health_every: int = 100
    auto_sanitize: AutoSanitize = "restore"
    include: list[str] | None = None
    exclude: list[str] | None = None
    allow: tuple[str, ...] = ("sanitize",)
    mode: Mode = "online"
    server: str | None = None
    max_repairs: int | None = None
    start_step: int = 0
    place: Place = field(default_factory=Place)
    replay: bool = True
    keep_batches: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("mode", self.mode, get_args(Mode)),
            ("auto_sanitize", self.auto_sanitize, get_args(AutoSanitize)),
            *(("allow", action, get_args(wire.Action)) for action in self.allow),
        ):
            if value not in known:
                raise ConfigurationError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        for name, number, least in (("every", self.every, 1), ("health_every", self.health_every, 1)):
            if number < least:
                raise ConfigurationError(f"{name}: expected at least {least}, got {number}")
        if server := self.server or os.environ.get("TRAINVITALS_SERVER"):
            check_url(server)


def choose_mode(given: str | None) -> str:
    """The argument, else `TRAINVITALS_MODE`, else online."""
    return given or os.environ.get("TRAINVITALS_MODE") or "online"


def plain(config: Any) -> Any:
    """The user's config as what MessagePack and JSON can hold; anything else as its text."""
    if isinstance(config, dict):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple | set):
        return [plain(value) for value in config]
    if config is None or isinstance(config, bool):
        return config
    if isinstance(config, int) and abs(config) < 1 << 63:
        return int(config)
    return float(config) if isinstance(config, float) else str(config)
