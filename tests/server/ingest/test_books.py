"""What the writer remembers: never more than is needed for the trainers that are there."""

from collections import OrderedDict
from pathlib import Path

import pytest

from served import Served, frame, identify, layout, until
from trainvitals import wire
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest import books as books_module
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.rules import block
from trainvitals_server.store import runs
from trainvitals_server.store.database import Database

COLUMNS = [("a", wire.NORM, wire.VAR_MAX), ("b", wire.NORM, wire.VAR_MAX)]
SHARD = ("a.weight", wire.PARAMETER, wire.GRAD_NORM + wire.SHARD)


def test_what_is_remembered_of_a_trainer_goes_when_it_leaves(served: Served) -> None:
    """Its sheet, and the plan of its columns; when it comes back the rest of its records follow what came before."""
    books = served.service.parts.books
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS), frame(0, [1.0, 2.0]))
        (sheet,) = books._sheets.values()
        planned = block.Layout(sheet.layouts[1].declared)
        assert planned in block._plans
    until(lambda: not books._sheets)
    assert planned not in block._plans
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(frame(1, [1.0, 2.0]))
        trainer.send(frame(1, [1.0, 2.0]))
        assert "a step after 1" in trainer.hear(wire.Nack).reason
        assert len(books._sheets) == 1


def test_a_newer_connection_of_the_same_trainer_keeps_its_sheet(served: Served) -> None:
    """Only who has really left is forgotten."""
    books = served.service.parts.books
    with served.trainer() as older, served.trainer() as newer:
        older.hello()
        older.store(layout(*COLUMNS), frame(0, [1.0, 2.0]))
        newer.hello()
        newer.store(frame(1, [1.0, 2.0]))
        assert len(books._sheets) == 1
    until(lambda: not books._sheets)


def test_what_ranks_added_up_goes_with_them(served: Served) -> None:
    """And the sheets of others that were opened for it."""
    books = served.service.parts.books
    ranks = [{"producer": f"p-{rank}", "rank": rank, "world_size": 2, "launch": "l-1"} for rank in range(2)]
    with served.trainer(**ranks[0]) as one:
        one.hello()
        with served.trainer(**ranks[1]) as two:
            two.hello()
            for speaker in (one, two):
                speaker.store(layout(SHARD), *[frame(step, [4.0]) for step in range(2)])
            assert books.sums
        until(lambda: not books.sums)
        one.store(*[frame(step, [4.0]) for step in range(2, 4)])
    until(lambda: not books.sums and not books._sheets)


def test_the_sheet_that_was_used_least_lately_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many producers a database tells of."""
    monkeypatch.setattr(books_module, "MAX_PRODUCERS", 2)
    database, books = Database(tmp_path / "test.db"), Books()
    connection = database.writer()
    made = [runs.enter(connection, identify(producer=f"p-{one}"), 0.0)[0].id for one in range(3)]
    for one in (made[0], made[1], made[0], made[2]):
        books.sheet(connection, one)
    assert list(books._sheets) == [made[0], made[2]]
    connection.close()
    database.close()


def test_what_a_failed_transaction_did_not_touch_is_not_read_again(served: Served) -> None:
    """Only the sheets that were in use are; the records that come again are judged by what is on the disk."""
    books, writer = served.service.parts.books, served.service.parts.writer
    with served.trainer(producer="p-1") as one, served.trainer(producer="p-2", started=2.0) as two:
        for speaker in (one, two):
            speaker.hello()
            speaker.store(layout(*COLUMNS), frame(0, [1.0, 2.0]))
        first, second = books._sheets

        def fail(tx: Transaction) -> None:
            tx.booked = True
            books.sheet(tx.connection, second).steps.clear()
            raise InterruptedError("half-way")

        kept = books._sheets[first]
        with pytest.raises(InterruptedError):
            writer.submit(fail).result(10)
        assert dict(books._sheets) == {first: kept}
        two.send(frame(0, [1.0, 2.0]))
        assert "a step after 0" in two.hear(wire.Nack).reason
        two.hear(wire.Ack)
        one.store(frame(1, [1.0, 2.0]))
        assert books._sheets[first] is kept


def test_a_transaction_that_fails_as_a_whole_takes_back_every_sheet_it_used(served: Served) -> None:
    """Those of jobs that went well included; what was added up is added up again."""
    books, writer = served.service.parts.books, served.service.parts.writer
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS), frame(0, [1.0, 2.0]))
        (producer,) = books._sheets

        def break_off(tx: Transaction) -> None:
            books.sheet(tx.connection, producer).steps.clear()
            raise StoreBusyError("the disk is gone")

        with pytest.raises(StoreBusyError):
            writer.submit(break_off).result(10)
        assert not books._sheets
        trainer.store(frame(1, [1.0, 2.0]))
        assert list(books._sheets) == [producer]


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was used least lately goes."""
    monkeypatch.setattr(block, "_plans", OrderedDict())
    monkeypatch.setattr(block, "MAX_PLANS", 2)
    first, second, third = [(wire.Series(0, name, wire.NORM, wire.VAR_MAX, 0),) for name in "abc"]
    for columns in (first, second, first, third):
        block.plan_of(columns)
    assert [kept.columns for kept in block._plans] == [first, third]
