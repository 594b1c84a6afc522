"""How much is kept, as it is written on the command line, and which run goes first. No clock, no database.

`30d` keeps ended runs for thirty days, `20GB` keeps the database below twenty gigabytes by deleting those that ended
first; `30d,20GB` does both. Units: h, d, w; MB, GB, TB (powers of 1000), MiB, GiB, TiB.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from trainvitals_server.errors import SettingsError

HOURS = {"h": 1, "d": 24, "w": 24 * 7}
BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
EXPECTED = "expected an age such as 30d (units h, d, w) or a size such as 20GB (units MB, GB, TB, MiB, GiB, TiB)"
LOST_SECONDS = 24 * 3600.0  # a lost run's trainer may still be buffering; after a day nobody waits for it


@dataclass(frozen=True)
class Retention:
    """`seconds` an ended run is kept, and `bytes` the database may use; None: without limit."""

    seconds: float | None = None
    bytes: int | None = None
    text: str = ""

    def __bool__(self) -> bool:
        """Whether anything is ever deleted."""
        return self.seconds is not None or self.bytes is not None


def parse(texts: Iterable[str]) -> Retention:
    """What the options say. Raises `SettingsError`."""
    ages: list[float] = []
    sizes: list[int] = []
    parts = [part.strip() for text in texts for part in text.split(",")]
    for part in parts:
        number, unit = _split(part)
        if unit in HOURS:
            ages.append(number * HOURS[unit] * 3600)
        else:
            sizes.append(int(number * BYTES[unit]))
    if len(ages) > 1 or len(sizes) > 1:
        raise SettingsError(f"--retain: expected at most one age and one size, got {', '.join(parts)}")
    return Retention(next(iter(ages), None), next(iter(sizes), None), ",".join(parts))


def _split(part: str) -> tuple[float, str]:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]+)", part, re.ASCII)
    units = {unit.lower(): unit for unit in (*HOURS, *BYTES)}
    if found is None or found[2].lower() not in units:
        raise SettingsError(f"--retain: {EXPECTED}, got {part[:40]!r}")
    number = float(found[1])
    if number <= 0:
        raise SettingsError(f"--retain: expected more than nothing, got {part[:40]!r}; to keep all, leave it out")
    return number, units[found[2].lower()]
