"""The map of a statistic, packed and as JSON, and answers that tell only what has changed."""

import json
import struct

import numpy as np
import pytest

from served import Served, frame, layout
from trainvitals import wire

NORMS = [(f"layer{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(3)]
LOSS = ("", wire.RUN, wire.LOSS)
RUN = "/api/runs/run-1"
MAP = {"kind": wire.PARAMETER, "stat": wire.GRAD_NORM, "columns": 8}
PACKED = {"Accept": "application/octet-stream"}
NAN, INF = float("nan"), float("inf")


def tell(served: Served) -> None:
    """Sixteen frames; a layer breaks at step 9, another is silent from step 12 on."""
    with served.trainer() as trainer:
        trainer.hello()
        rows = [
            [float(step), NAN if step == 9 else INF if step == 10 else 1.0, None if step > 11 else 2.0, 0.5]
            for step in range(16)
        ]
        trainer.store(layout(*NORMS, LOSS), *[frame(step, row) for step, row in enumerate(rows)])


def test_the_map_of_a_statistic(served: Served) -> None:
    """In forward order, in as many columns at most, as JSON with non-finite numbers by name."""
    tell(served)
    found = served.get(f"{RUN}/heatmap", **MAP)
    assert (found["from"], found["to"], found["start"], found["steps_per_bucket"]) == (0, 15, 0, 2)
    assert (found["columns"], found["series"], found["gaps"]) == (8, [1, 2, 3], [])
    assert found["planes"]["max"][0] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert found["planes"]["last"][1] == [1, 1, 1, 1, "NaN", 1, 1, 1]
    assert found["planes"]["max"][2][5:] == [2, "NaN", "NaN"]
    assert found["planes"]["n_nonfinite"] == [[0] * 8, [0, 0, 0, 0, 1, 1, 0, 0], [0] * 6 + [255, 255]]


def test_the_packed_map_holds_the_same_numbers(served: Served) -> None:
    """Values as float32, counts as bytes, behind a header that says where they are."""
    tell(served)
    names = "n_nan,min,n_posinf,first"
    answer = served.ask("GET", f"{RUN}/heatmap", params={**MAP, "reduce": names}, headers=PACKED).content
    (length,) = struct.unpack_from("<I", answer)
    head, at = json.loads(answer[4 : 4 + length]), 4 + length
    assert head["planes"] == ["min", "first", "n_nan", "n_posinf"]
    plain = served.get(f"{RUN}/heatmap", **MAP, reduce=names)["planes"]
    shape = len(head["series"]), head["columns"]
    for name in head["planes"]:
        kind = np.dtype("u1" if name.startswith("n_") else "<f4")
        plane = np.frombuffer(answer, kind, shape[0] * shape[1], at).reshape(shape)
        at += plane.nbytes
        np.testing.assert_array_equal(plane, [[float(value) for value in row] for row in plain[name]], name)
    assert at == len(answer)


def test_a_statistic_that_nothing_has_is_an_empty_map(served: Served) -> None:
    """No rows; its steps are those of the run."""
    tell(served)
    found = served.get(f"{RUN}/heatmap", kind=wire.NORM, stat="none", columns=8)
    assert (found["series"], found["planes"]["max"], found["to"]) == ([], [], 15)


@pytest.mark.parametrize(
    ("rest", "status", "words"),
    [
        ({"reduce": "max,mean"}, 422, "got 'mean'"),
        ({"from": 5, "to": 3}, 422, "query.from"),
        ({"columns": 1}, 422, "columns"),
    ],
)
def test_what_cannot_be_drawn_is_refused(served: Served, rest: dict[str, object], status: int, words: str) -> None:
    """In one line, with what was expected."""
    tell(served)
    answer = served.ask("GET", f"{RUN}/heatmap", params={**MAP, **rest})
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True)


def test_only_what_changed_is_told_again(served: Served) -> None:
    """From the bucket on into which new frames fell; the mark of another question is none."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS), *[frame(step, [1.0]) for step in range(60)])
        first = served.get(f"{RUN}/data", series="1", points=50)
        assert (first["since"], len(first["series"][0]["step"])) == (None, 60)
        trainer.store(*[frame(step, [2.0]) for step in range(60, 64)])
        second = served.get(f"{RUN}/data", series="1", points=50, since=first["mark"])
        assert (second["since"], second["series"][0]["step"]) == (60, [60, 61, 62, 63])
        other = served.get(f"{RUN}/data", series="1", points=5, since=first["mark"])
        assert (other["since"], other["steps_per_bucket"]) == (None, 8)
        assert served.get(f"{RUN}/data", series="1", points=50, since="no mark")["since"] is None
