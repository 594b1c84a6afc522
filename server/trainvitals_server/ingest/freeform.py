"""What trainers may put where the wire leaves the form to them: a run's configuration, a command's result."""

from datetime import datetime
from typing import Any

MAX_DEPTH = 48  # answers wrap it a few levels deeper, and JSON is written to 64


def check_free(value: Any, name: str, depth: int = 0) -> None:
    """Raise ValueError unless `value` can be shown as JSON: no deeper than `MAX_DEPTH`, no MessagePack extensions."""
    if value is None or isinstance(value, str | bool | int | float | bytes | datetime):
        return
    if not isinstance(value, dict | list):
        raise ValueError(f"expected in {name} what JSON can hold, got {type(value).__name__}")
    if depth >= MAX_DEPTH:
        raise ValueError(f"expected at most {MAX_DEPTH} levels in {name}, got more")
    if isinstance(value, dict):
        for key in value:
            check_free(key, name, depth + 1)
    for item in value.values() if isinstance(value, dict) else value:
        check_free(item, name, depth + 1)
