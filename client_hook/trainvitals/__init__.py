"""trainvitals: a bedside monitor for PyTorch training runs.

Importing this package costs nothing: torch and everything that needs it is loaded with the first name used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainvitals.checkpoint import CheckpointResult, LoadedCheckpoint, load_checkpoint, save_checkpoint
    from trainvitals.entry import watch
    from trainvitals.errors import (
        CheckpointError,
        ConfigurationError,
        CorruptModelError,
        TrainvitalsError,
        UnsupportedTensorError,
    )
    from trainvitals.monitor import Watch
    from trainvitals.repair.configure import configure_bn_for_stability
    from trainvitals.repair.health import HealthReport, Issue, check_model_health
    from trainvitals.repair.recalibrate import Recalibration, recalibrate_bn
    from trainvitals.repair.sanitize import sanitize_model_bn_stats

_HOMES = {
    "watch": "entry",
    "Watch": "monitor",
    "check_model_health": "repair.health",
    "HealthReport": "repair.health",
    "Issue": "repair.health",
    "sanitize_model_bn_stats": "repair.sanitize",
    "configure_bn_for_stability": "repair.configure",
    "recalibrate_bn": "repair.recalibrate",
    "Recalibration": "repair.recalibrate",
    "save_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "CheckpointResult": "checkpoint",
    "LoadedCheckpoint": "checkpoint",
    "TrainvitalsError": "errors",
    "ConfigurationError": "errors",
    "CorruptModelError": "errors",
    "CheckpointError": "errors",
    "UnsupportedTensorError": "errors",
}

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "CheckpointResult",
    "ConfigurationError",
    "CorruptModelError",
    "HealthReport",
    "Issue",
    "LoadedCheckpoint",
    "Recalibration",
    "TrainvitalsError",
    "UnsupportedTensorError",
    "Watch",
    "check_model_health",
    "configure_bn_for_stability",
    "load_checkpoint",
    "recalibrate_bn",
    "sanitize_model_bn_stats",
    "save_checkpoint",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home at first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'trainvitals' has no attribute {name!r}")
    value = getattr(import_module(f"trainvitals.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
