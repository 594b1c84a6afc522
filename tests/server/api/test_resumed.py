"""The past of a run that another process went on with, and what a frame leaves out."""

from served import Served, frame, layout
from trainvitals import wire

LOSS = ("", wire.RUN, wire.LOSS)
BAD = ("bn", wire.NORM, wire.NONFINITE_CHANNELS)
RUN = "/api/runs/run-1"


def validation(step: int, *, valid: int) -> wire.Validation:
    """One of eight samples, of which as many were valid."""
    return wire.Validation(step=step, time=1e6, valid=valid, errors=0, nonfinite=8 - valid, total=8)


def test_what_the_process_before_told_ends_where_the_next_one_begins(served: Served) -> None:
    """As of a step that both told, the events of the first are not mixed with the frames of the second."""
    broken = wire.NonFinite(step=8, time=1e6 + 8, layer="bn", signal="running_statistics", kind="nan")
    with served.trainer(producer="p-1", started=1.0) as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD), *[frame(step, [1.0, 0.0]) for step in range(10)])
        trainer.store(validation(3, valid=8), broken, validation(8, valid=0))
    with served.trainer(producer="p-2", started=2.0) as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD), *[frame(step, [1.0, 0.0]) for step in range(6, 10)])
    at = served.get(f"{RUN}/at", step=8)
    assert (at["verdict"]["level"], at["events"], at["validation"]["step"]) == ("ok", [], 3)
    assert served.get(RUN)["verdict"]["level"] != "critical", "what was done over breaks the run no more"
    assert served.get(RUN)["first_bad_step"] == 8
    assert len(served.get(f"{RUN}/events")["events"]) >= 3, "the log itself keeps everything"


def test_gaps_end_where_another_process_has_told_the_steps(served: Served) -> None:
    """What the first lost after the second took over is not missing; what the second lost before its first frame does
    not reach back over what the first has told."""
    lost = wire.Gap(count=5, reason="disk full", since=1e6, until=1e6, first_step=4, last_step=40)
    with served.trainer(producer="p-1", started=1.0) as trainer:
        trainer.hello()
        trainer.store(layout(LOSS), *[frame(step, [1.0]) for step in (*range(4), 41)], lost)
    with served.trainer(producer="p-2", started=2.0) as trainer:
        trainer.hello(first=3, next=3)
        trainer.store(layout(LOSS), *[frame(step, [1.0]) for step in range(20, 30)])
    gaps = served.get(f"{RUN}/data", series="1")["gaps"]
    assert [(gap["from"], gap["to"], gap["count"]) for gap in gaps] == [(4, 19, 5), (20, 20, 3)]


def test_a_layer_that_is_silent_stays_what_it_was(served: Served) -> None:
    """Absent is not healthy: the last known value stands until another one comes."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD), frame(0, [1.0, 3.0]))
        trainer.store(frame(1, [1.0, None]))
        assert served.get(f"{RUN}/at", step=1)["nonfinite_layers"] == ["bn"]
        assert served.get(RUN)["nonfinite_layers"] == ["bn"]
        trainer.store(frame(2, [1.0, 0.0]), frame(3, [1.0, None]))
        assert served.get(f"{RUN}/at", step=3)["nonfinite_layers"] == []


def test_a_layer_that_a_newer_layout_has_no_more_is_gone(served: Served) -> None:
    """What its old layout said last is not held against the run; other layouts in use still count."""
    slow = ("bn", wire.INPUT, wire.HEADROOM)
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD), layout(slow, number=2), frame(0, [1.0, 3.0]), frame(0, [9.0], number=2))
        trainer.store(layout(LOSS, number=3), frame(1, [2.0], number=3))
    at = served.get(f"{RUN}/at", step=1)
    assert at["nonfinite_layers"] == []
    assert sorted(at["values"].values()) == [2.0, 9.0]


def test_what_a_newer_layout_left_out_does_not_come_back_from_an_older_one(served: Served) -> None:
    """Not even where two layouts before it had the series."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(*(layout(*columns, number=n) for n, columns in enumerate([(LOSS, BAD), (LOSS, BAD), (LOSS,)])))
        for number in (0, 1):
            trainer.store(frame(number, [1.0, 3.0], number=number))
        assert served.get(f"{RUN}/at", step=1)["nonfinite_layers"] == ["bn"]
        trainer.store(frame(2, [2.0], number=2))
    at = served.get(f"{RUN}/at", step=2)
    assert (at["nonfinite_layers"], list(at["values"].values())) == ([], [2.0])
