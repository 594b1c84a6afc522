"""A file's tensors, by the path of names that leads to each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainvitals.diagnose import safetensors
from trainvitals.diagnose.archive import Archive
from trainvitals.diagnose.grouping import STATISTICS, group_of, name_of
from trainvitals.diagnose.pickles import Placeholder, Tensor, Unjudged, unpickle
from trainvitals.diagnose.report import Group, RefusedError, plain
from trainvitals.diagnose.tensors import Place, place_of

MAX_THINGS = 5_000_000  # containers looked through in one pickle
MAX_DEPTH = 256
LOOKED_INTO = (Mapping, list, tuple, set, frozenset, Placeholder, Tensor, Unjudged)
ZIP, OLD = b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


@dataclass(frozen=True)
class Named:
    """A tensor, what it is called, what it is, and where it lies; `layer` is its name without the last part."""

    path: tuple[str, ...]
    key: str
    group: Group
    place: Place
    record: str = ""

    @property
    def layer(self) -> tuple[str, ...]:
        """Tensors of one layer have it in common."""
        return (*self.path[:-1], self.path[-1].rpartition(".")[0])

    @property
    def statistic(self) -> str:
        """running_mean or running_var, for one of the group "statistics"."""
        return self.path[-1].rpartition(".")[2]


@dataclass
class Contents:
    """What a file holds."""

    tensors: list[Named] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    unjudged: list[str] = field(default_factory=list)
    archive: Archive | None = None


def read(path: Path, file: Any) -> Contents:
    """The contents of one file. Raises `RefusedError`."""
    head = file.read(16)
    if head.startswith(ZIP):
        return _read_archive(Archive(path, file))
    if head.startswith(OLD):
        raise RefusedError(
            "expected a zip file of torch.save, got the format from before torch 1.6; load and save it again"
        )
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        named = [((plain(name),), place) for name, place in safetensors.places(path)]
        return Contents([Named(p, name_of(p, True), group_of(p, True), place) for p, place in named])
    raise RefusedError("expected a checkpoint of torch.save or a safetensors file, got neither")


def _read_archive(archive: Archive) -> Contents:
    root, kept = unpickle(archive.read("data.pkl"))
    contents = Contents(kept=kept, archive=archive)
    bare = _is_state_dict(root)
    prefix = ("optimizer",) if isinstance(root, Mapping) and {"state", "param_groups"} <= root.keys() else ()
    for path, found in _walk(root, prefix):
        whole = path or ("tensor",)
        if isinstance(found, Unjudged):
            if group_of(whole, bare) != "other":
                contents.unjudged.append(f"{name_of(whole, bare)} ({found.why})")
            continue
        record = f"data/{found.storage.key}"
        if record not in archive.records:
            raise RefusedError(f"expected a record {record[:80]!r} for {name_of(whole, bare)[:80]!r}, found none")
        at = archive.records[record]
        place = place_of(found, at.start, at.size, archive.order)
        group = group_of(whole, bare, is_scalar=not found.shape)
        contents.tensors.append(Named(whole, name_of(whole, bare), group, place, record))
    return contents


def _is_state_dict(root: Any) -> bool:
    """Whether the file is one state dict, whatever else it holds beside the tensors; or nothing but tensors."""
    if isinstance(root, list | tuple | set):
        return any(isinstance(value, Tensor) for value in root)
    if isinstance(root, Placeholder):
        root = dict(_inner(root))
    if not isinstance(root, Mapping):
        return isinstance(root, Tensor)
    tensors = [str(key) for key, value in root.items() if isinstance(value, Tensor)]
    if any("." in key or key.endswith(("weight", "bias", *STATISTICS)) for key in tensors):
        return True
    return bool(tensors) and not any(_inner(value) for value in root.values())


def _walk(root: Any, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor | Unjudged]]:
    """Every tensor in what a pickle built, in its order, each container once; no recursion, so depth does no harm."""
    waiting: list[tuple[tuple[str, ...], Any]] = [(prefix, root)]
    seen: dict[int, Any] = {}
    while waiting:
        path, thing = waiting.pop()
        if isinstance(thing, Tensor | Unjudged):
            yield path, thing
            continue
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if len(path) > MAX_DEPTH or len(seen) > MAX_THINGS:
            raise RefusedError(f"expected at most {MAX_THINGS:,} containers nested {MAX_DEPTH} deep, got more")
        if isinstance(thing, Placeholder) and thing.origin.endswith(".multiarray._reconstruct"):
            yield path, Unjudged("a numpy array")
        inner = [(name, value) for name, value in _inner(thing) if isinstance(value, LOOKED_INTO)]
        waiting += [((*path, _name(name)), value) for name, value in reversed(inner)]


def _inner(thing: Any) -> list[tuple[Any, Any]]:
    """What a container holds, by name; of a placeholder the state it was given, as if it were its own."""
    if isinstance(thing, Mapping):
        return list(thing.items())
    if isinstance(thing, list | tuple | set | frozenset):
        return list(enumerate(thing))
    if not isinstance(thing, Placeholder):
        return []
    named = list(thing.__dict__["entries"].items())
    for i, value in enumerate(thing.__dict__["held"]):
        named += value.items() if isinstance(value, Mapping) else [(i, value)]
    return named


def _name(key: Any) -> str:
    """A key as part of a name; what is neither text nor a number of ordinary size is named by its type."""
    if isinstance(key, str):
        return plain(key[:1000])
    return str(key) if isinstance(key, int) and abs(key) < 1 << 63 else type(key).__name__
