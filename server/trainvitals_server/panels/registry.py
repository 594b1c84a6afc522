"""The panels there are: every module of this folder that has a `panel`."""

import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


def declare() -> list[dict[str, Any]]:
    """Every panel's declaration, in their order on the page; the caller's to keep."""
    panels: list[dict[str, Any]] = json.loads(declared())
    return panels


@cache
def declared() -> str:
    """All declarations as JSON: made once, because building figures takes Plotly a while."""
    return json.dumps([module.panel() for module in modules()], allow_nan=False)


@cache
def modules() -> tuple[ModuleType, ...]:
    """The modules that declare a panel, in the order of their places."""
    names = [info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)])]
    found = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return tuple(sorted((one for one in found if hasattr(one, "panel")), key=lambda one: (one.PLACE, one.__name__)))
