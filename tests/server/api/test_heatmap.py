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


def test_the_map_tells_only_what_changed(served: Served) -> None:
    """From the column on into which new frames fell, whatever has the newest; JSON and packed name the same step."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*NORMS), *[frame(step, [1.0, 1.0, 1.0]) for step in range(16)])
        first = served.get(f"{RUN}/heatmap", **MAP)
        assert (first["since"], first["through"], first["columns"]) == (None, 15, 8)
        same = served.get(f"{RUN}/heatmap", **MAP, since=first["mark"])
        assert (same["since"], same["start"], same["planes"]["max"][0]) == (14, 14, [1])
        whole = {**MAP, "from": 0, "to": 15}
        mark = served.get(f"{RUN}/heatmap", **whole, reduce="n_nan")["mark"]
        trainer.store(layout(*NORMS, LOSS, number=2), frame(16, [NAN, 1.0, 1.0, 0.5], number=2))
        trainer.store(frame(17, [2.0, 1.0, 1.0]))
        assert served.get(f"{RUN}/heatmap", **whole, since=mark)["since"] == 0, "a layout has come"
        now = served.get(f"{RUN}/heatmap", **{**MAP, "columns": 9}, since=first["mark"])
        assert (now["since"], now["columns"], now["through"]) == (0, 9, 17), "a layout has come"
        trainer.store(frame(18, [INF, 1.0, 1.0]))
        wider = {**MAP, "columns": 10}
        later = served.get(f"{RUN}/heatmap", **wider, since=now["mark"])
        assert (later["since"], later["start"], later["columns"]) == (18, 18, 1)
        assert later["planes"]["n_nonfinite"] == [[1], [0], [0]]
        assert served.get(f"{RUN}/heatmap", **{**MAP, "columns": 3}, since=later["mark"])["since"] is None


def test_values_are_rounded_to_the_bits_asked_for(served: Served) -> None:
    """To the nearest, in both forms; what is not finite stays what it is."""
    with served.trainer() as trainer:
        trainer.hello()
        largest = float(np.finfo(np.float32).max)
        trainer.store(layout(*NORMS), frame(0, [1.00390625, -3.14159, NAN]), frame(1, [largest, INF, 1 / 3]))
    query = {**MAP, "reduce": "last", "bits": 8}
    rounded = served.get(f"{RUN}/heatmap", **query)["planes"]["last"]
    assert rounded[0] == [1.0078125, pytest.approx(largest)]
    assert rounded[1:] == [[-3.140625, "Infinity"], ["NaN", 0.333984375]]
    answer = served.ask("GET", f"{RUN}/heatmap", params=query, headers=PACKED).content
    packed = np.frombuffer(answer[-24:], "<f4").reshape(3, 2)
    np.testing.assert_array_equal(packed, [[float(value) for value in row] for row in rounded])
    assert served.get(f"{RUN}/heatmap", **MAP)["planes"]["last"][0][0] == 1.00390625
    assert served.ask("GET", f"{RUN}/heatmap", params={**MAP, "bits": 25}).status_code == 422


@pytest.mark.parametrize("path", ["heatmap", "data"])
def test_packed_answers_are_compressed_for_who_takes_that(served: Served, path: str) -> None:
    """The same bytes inside; who does not say so gets them plain."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*NORMS), *[frame(step, [1.0, 2.0, 3.0]) for step in range(200)])
    query = MAP | {"series": "1,2,3", "columns": 400}
    plain, packed = (
        served.ask("GET", f"{RUN}/{path}", params=query, headers={**PACKED, "Accept-Encoding": one})
        for one in ("identity", "gzip")
    )
    assert plain.content == packed.content
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert int(packed.headers["Content-Length"]) * 4 < int(plain.headers["Content-Length"])


def test_only_the_fields_asked_for_are_told(served: Served) -> None:
    """In both forms, with the step of each bucket; what is no field is refused."""
    tell(served)
    query = {"series": "1", "points": 20, "fields": "max,n_nan"}
    (told,) = served.get(f"{RUN}/data", **query)["series"]
    assert list(told) == ["id", "step", "n_nan", "max"]
    answer = served.ask("GET", f"{RUN}/data", params=query, headers=PACKED).content
    (length,) = struct.unpack_from("<I", answer)
    assert json.loads(answer[4 : 4 + length])["fields"] == ["step", "max", "n_nan"]
    columns = np.frombuffer(answer, "<f8", offset=4 + length).reshape(3, 16)
    np.testing.assert_array_equal(columns[0], told["step"])
    np.testing.assert_array_equal(columns[2], told["n_nan"])
    refused = served.ask("GET", f"{RUN}/data", params={**query, "fields": "mean"})
    assert (refused.status_code, "got 'mean'" in refused.json()["detail"]) == (422, True)


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
