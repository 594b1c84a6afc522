"""The errors of this package.

TrainvitalsError
├── ConfigurationError (also ValueError): an argument, an environment variable or a file of settings is wrong
├── UnsupportedTensorError (also TypeError): a tensor holds no values that could be judged (meta, quantised)
└── CheckpointError: a checkpoint cannot be read or written
    └── CorruptModelError: a state holds corrupt tensors; `key` names the first, `kept` where the state lies
"""

from pathlib import Path


class TrainvitalsError(Exception):
    """Base of every error raised on purpose by this package."""


class ConfigurationError(TrainvitalsError, ValueError):
    """A setting is wrong; the message names what was expected and what came."""


class UnsupportedTensorError(TrainvitalsError, TypeError):
    """A tensor of the model cannot be judged or repaired; the message names it and what it is."""


class CheckpointError(TrainvitalsError):
    """A checkpoint cannot be read or written."""


class CorruptModelError(CheckpointError):
    """A state holds non-finite values and was not saved under its own name, but at `kept` (None: nowhere)."""

    def __init__(self, key: str, reason: str, kept: Path | None = None) -> None:
        super().__init__(f"Checkpoint save aborted! Model corrupted at key: {key} ({reason})")
        self.key = key
        self.reason = reason
        self.kept = kept
