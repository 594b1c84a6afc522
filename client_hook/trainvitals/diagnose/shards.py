"""Which files make up a checkpoint, and where its fixed copy goes."""

import json
from dataclasses import dataclass
from pathlib import Path

from trainvitals.diagnose.report import RefusedError

PATTERNS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.ckpt")
INDEX = ".index.json"
MAX_INDEX = 256 << 20  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """Its files; `folder` is set where they belong together in one."""

    path: Path
    files: list[Path]
    folder: Path | None = None

    @property
    def fixed(self) -> Path:
        """Beside the original: NAME_FIXED.SUFFIX for a file, NAME_FIXED for a folder."""
        if self.folder is not None:
            return self.folder.with_name(f"{self.folder.name}_FIXED")
        return self.path.with_name(f"{self.path.stem}_FIXED{self.path.suffix}")


def find(path: Path) -> Checkpoint:
    """The checkpoint at `path`: a file, the index of shards, or a folder with either. Raises `RefusedError`."""
    if not path.exists():
        raise RefusedError("expected a checkpoint, found no such file")
    if path.is_dir():
        return _in_folder(path.absolute())
    if not path.is_file():
        raise RefusedError("expected a file or a folder, got something else")
    if path.name.endswith(INDEX):
        folder = path.absolute().parent
        return Checkpoint(path, _indexed(path.absolute()), folder)
    return Checkpoint(path, [path])


def _in_folder(folder: Path) -> Checkpoint:
    if (folder / ".metadata").exists():
        how = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        raise RefusedError(f"a distributed checkpoint; make a file of it first: {how}")
    indexes = sorted(index for index in folder.glob(f"*{INDEX}") if index.is_file())
    listed = [file for index in indexes for file in _indexed(index)]
    others = [file for pattern in PATTERNS for file in sorted(folder.glob(pattern)) if file.is_file()]
    files = list(dict.fromkeys([*listed, *others]))
    if not files:
        raise RefusedError(f"expected a folder with checkpoints ({', '.join(PATTERNS)}), found none in it")
    return Checkpoint(folder, files, folder)


def _indexed(index: Path) -> list[Path]:
    """The shards an index names: plain names of files that are there."""
    if index.stat().st_size > MAX_INDEX:
        raise RefusedError(f"{index.name}: expected an index of at most {MAX_INDEX:,} bytes")
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(f"{index.name}: expected an index with a weight_map of names to files") from error
    if not names:
        raise RefusedError(f"{index.name}: expected an index that names files, got an empty one")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (index.parent / name).is_file():
            raise RefusedError(f"{index.name}: expected names of files beside it, got {str(name)[:80]!r}")
    return [index.parent / name for name in names]
