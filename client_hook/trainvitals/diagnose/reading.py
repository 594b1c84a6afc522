"""A file's tensors, by the path of names that leads to each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainvitals.diagnose import safetensors
from trainvitals.diagnose.archive import Archive
from trainvitals.diagnose.grouping import group_of, name_of
from trainvitals.diagnose.pickles import Placeholder, Tensor, Unjudged, unpickle
from trainvitals.diagnose.report import Group, RefusedError
from trainvitals.diagnose.tensors import Place, place_of

MAX_THINGS = 5_000_000  # objects looked through in one pickle
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
        named = [((name,), place) for name, place in safetensors.places(path)]
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
            contents.unjudged.append(f"{name_of(whole, bare)} ({found.why})")
            continue
        record = f"data/{found.storage.key}"
        if record not in archive.records:
            raise RefusedError(f"expected a record {record[:80]!r} for {name_of(whole, bare)[:80]!r}, found none")
        at = archive.records[record]
        place = place_of(found, at.start, at.size, archive.order)
        contents.tensors.append(Named(whole, name_of(whole, bare), group_of(whole, bare), place, record))
    return contents


def _is_state_dict(root: Any) -> bool:
    """Whether the file is one state dict: tensors by name, and nothing deeper."""
    if not isinstance(root, Mapping):
        return isinstance(root, Tensor)
    values = list(root.values())
    deeper = any(isinstance(value, Mapping | list | tuple | Placeholder) for value in values)
    return not deeper and any(isinstance(value, Tensor) for value in values)


def _walk(root: Any, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor | Unjudged]]:
    """Every tensor in what a pickle built, in its order, each container once; no recursion, so depth does no harm."""
    waiting: list[tuple[tuple[str, ...], Any]] = [(prefix, root)]
    seen: dict[int, Any] = {}
    looked = 0
    while waiting:
        path, thing = waiting.pop()
        looked += 1
        if looked > MAX_THINGS:
            raise RefusedError(f"expected at most {MAX_THINGS:,} objects in its pickle, got more")
        if isinstance(thing, Tensor | Unjudged):
            yield path, thing
        elif (inner := _inner(thing)) and id(thing) not in seen and len(path) < 64:
            seen[id(thing)] = thing
            waiting += [((*path, str(name)[:1000]), value) for name, value in reversed(inner)]


def _inner(thing: Any) -> list[tuple[Any, Any]]:
    if isinstance(thing, Mapping):
        return list(thing.items())
    if isinstance(thing, list | tuple | set | frozenset):
        return list(enumerate(thing))
    return list(enumerate(getattr(thing, "held", ()))) if isinstance(thing, Placeholder) else []
