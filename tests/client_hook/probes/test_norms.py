"""Norms of tensors of every kind a gradient can have."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from trainvitals.probes import norms
from trainvitals.probes.norms import Norms


def read(reader: Norms, tensors: Sequence[torch.Tensor | None]) -> list[float | None]:
    """The norm at each place; None where there is none."""
    found: list[float | None] = [None] * len(tensors)
    for part in reader.read(tensors):
        assert part.values.dtype == torch.float32
        for place, value in zip(part.columns.tolist(), part.values.tolist(), strict=True):
            found[place] = value
    return found


def reference(tensor: torch.Tensor) -> float:
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    return math.sqrt(float(dense.abs().double().square().sum()))


def reader_of(count: int) -> Norms:
    return Norms(np.arange(count))


def sparse() -> torch.Tensor:
    """Two rows of which one is named twice, so that its values have yet to be summed."""
    return torch.sparse_coo_tensor(torch.tensor([[1, 3, 1]]), torch.randn(3, 4), (5, 4), check_invariants=True)


KINDS = {
    "float32": lambda: torch.randn(3, 4),
    "float16": lambda: torch.full((1000,), 3000.0, dtype=torch.float16),
    "bfloat16": lambda: torch.randn(7).bfloat16(),
    "float64": lambda: torch.randn(3, 4, dtype=torch.float64) * 1e30,
    "complex64": lambda: torch.randn(3, 4, dtype=torch.complex64),
    "complex128": lambda: torch.randn(3, dtype=torch.complex128),
    "sparse": sparse,
    "a number": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
    "large": lambda: torch.randn(norms.SMALL + 1),
    "channels last": lambda: torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "a view with gaps": lambda: torch.randn(6, 8)[::2, 1::3],
}


@pytest.mark.parametrize("count", [1, norms.FEWEST, 3 * norms.FEWEST])
def test_every_kind_has_its_norm_whatever_stands_beside_it(count: int) -> None:
    """One or many of a shape, in mixed order, some absent: each norm is that of its own tensor."""
    torch.manual_seed(0)
    tensors: list[torch.Tensor | None] = [make() for _ in range(count) for make in KINDS.values()]
    tensors[3::7] = [None] * len(tensors[3::7])
    got = read(reader_of(len(tensors)), tensors)
    want = [None if tensor is None else reference(tensor) for tensor in tensors]
    assert [value is None for value in got] == [value is None for value in want]
    assert [v for v in got if v is not None] == pytest.approx([v for v in want if v is not None], rel=1e-5)


def test_a_combination_that_changes_is_read_as_what_it_is_now() -> None:
    """Tensors come, go and change their kind between two reads, and come back."""
    first: list[torch.Tensor | None] = [torch.full((4,), float(i)) for i in range(8)]
    second = [None, *(torch.ones(4, dtype=torch.complex64) for _ in range(6)), sparse()]
    reader = reader_of(8)
    for tensors in (first, second, first, [None] * 8, first):
        assert read(reader, tensors) == pytest.approx([None if t is None else reference(t) for t in tensors])


def test_more_combinations_than_are_remembered() -> None:
    """Forgetting is no fault."""
    reader = reader_of(norms.KEPT + 2)
    for absent in range(norms.KEPT + 2):
        tensors = [None if i == absent else torch.full((2,), float(i)) for i in range(norms.KEPT + 2)]
        assert read(reader, tensors) == pytest.approx([None if t is None else reference(t) for t in tensors])


def test_a_tensor_that_has_got_another_shape() -> None:
    """Even where it was stacked with others."""
    tensors = [torch.ones(4) for _ in range(6)]
    reader = reader_of(6)
    read(reader, tensors)
    tensors[2] = torch.ones(9)
    assert read(reader, tensors) == [2, 2, 3, 2, 2, 2]


def test_stacks_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, what is copied at a time is bounded."""
    monkeypatch.setattr(norms, "PIECE", 10)
    assert read(reader_of(9), [torch.full((4,), float(i)) for i in range(9)]) == [2.0 * i for i in range(9)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_non_finite_element_shows_in_its_own_norm_alone(value: float) -> None:
    """Stacked or not."""
    tensors = [torch.ones(4) for _ in range(5)] + [torch.ones(norms.SMALL + 1)]
    for place in (2, 5):
        tensors[place][1] = value
        got = read(reader_of(6), tensors)
        tensors[place][1] = 1.0
        assert [math.isfinite(norm) for norm in got if norm is not None] == [i != place for i in range(6)]
        assert math.isnan(got[place] or 0) == math.isnan(value)


@pytest.mark.parametrize("count", [1, norms.FEWEST])
def test_a_norm_whose_squares_overflow_is_no_infinity(count: int) -> None:
    """Elements of 1e25 are finite, and so is their norm; an infinite element stays one."""
    tensors = [torch.full((100,), 1e25) for _ in range(count)]
    assert read(reader_of(count), tensors) == pytest.approx([1e26] * count)
    assert read(reader_of(2), [torch.full((100,), 3e38), torch.ones(3)])[0] == norms.LARGEST
    spoiled = [torch.full((100,), 1e25), torch.tensor([1.0, math.inf])]
    assert read(reader_of(2), spoiled) == [pytest.approx(1e26), math.inf]
