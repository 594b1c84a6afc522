"""The rules there are: every module of this folder that has a `fold`."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from trainvitals_server.rules.block import Block, Finding

Fold = Callable[[Any, Block], tuple[Any, list[Finding]]]


@dataclass(frozen=True)
class Rule:
    """A rule under the name of its module, the type of its state, and its fold."""

    name: str
    state: type[msgspec.Struct]
    fold: Fold


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, by name."""
    package = __package__ or ""
    names = sorted(info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = {name: importlib.import_module(f"{package}.{name}") for name in names}
    return tuple(Rule(name, module.State, module.fold) for name, module in modules.items() if hasattr(module, "fold"))
