"""What lies in a checkpoint loads weights-only."""

import argparse
import enum
import io
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainvitals
from trainvitals.storage.contents import storable

Point = namedtuple("Point", "x y")


class Colour(str, enum.Enum):  # noqa: UP042 - the older spelling is the one in people's code
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Own(torch.Tensor):
    """A user's subclass."""


def loaded(state: Any) -> Any:
    """Through a file and back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (np.str_("x"), "x"),
        (argparse.Namespace(lr=0.1, names=["a"]), {"lr": 0.1, "names": ["a"]}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (PurePosixPath("a/b"), "a/b"),
        (Point(1, 2), (1, 2)),
        (frozenset([1, 2]), {1, 2}),
        ({np.int64(1): (None, True, 1j, b"x", torch.float16, torch.Size([2]))},) * 2,
    ],
    ids=repr,
)
def test_what_people_keep_is_stored_as_plain_types(value: Any, expected: Any) -> None:
    """The weights-only loader refuses a numpy number and a Namespace."""
    assert loaded(storable({"x": value})) == {"x": expected}


@pytest.mark.parametrize("dtype", ["float32", "uint8", ">f8", "bool"])
def test_arrays_become_tensors(dtype: str) -> None:
    """Of the same values, in the machine's byte order."""
    array = np.arange(4).astype(dtype)
    assert loaded(storable(array)).tolist() == array.tolist()


def test_a_subclass_of_tensor_becomes_a_tensor() -> None:
    """Its class is the user's code."""
    assert type(loaded(storable(torch.ones(2).as_subclass(Own)))) is torch.Tensor


def test_a_state_dict_keeps_its_order_and_the_versions_of_its_modules() -> None:
    """By which modules of torch know how old a state is."""
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    stored = loaded(storable(state))
    assert isinstance(stored, OrderedDict)
    assert list(stored) == list(state)
    assert stored._metadata["0"] == {"version": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (nn.Linear(1, 1), r"model\.net: .*got Linear; give its state_dict\(\)"),
        (print, r"model\.net: expected tensors.*got builtin_function_or_method$"),
        (np.array(["a"], dtype=object), r"model\.net: .*got ndarray"),
    ],
    ids=["a module", "a function", "an array of objects"],
)
def test_what_only_code_could_load_is_refused_by_its_place(tmp_path: Path, value: Any, hint: str) -> None:
    """In one line; nothing is written."""
    with pytest.raises(trainvitals.CheckpointError, match=hint) as caught:
        trainvitals.save_checkpoint(tmp_path / "x.pth", {"model": {"net": value}})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_holds_itself_is_refused(tmp_path: Path) -> None:
    """Not followed for ever."""
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(trainvitals.CheckpointError, match=r"x\.pth: cannot be written"):
        trainvitals.save_checkpoint(tmp_path / "x.pth", state)


def test_the_users_own_values_may_become_text() -> None:
    """Where the caller says so: `extra` of `watch.save_checkpoint`."""
    assert storable({"f": Path, (1, 2): 3, "t": {torch.float16}}, strict=False) == {
        "f": str(Path),
        (1, 2): 3,
        "t": {torch.float16},
    }
