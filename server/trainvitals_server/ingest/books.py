"""What the writer remembers between batches so that it need not ask the database: layouts, their newest steps, and
what the rules remember. Everything here can be forgotten at any time and is then read again; what belongs to a trainer
is forgotten when it leaves."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from trainvitals_server.rules import Memory, forget_plan
from trainvitals_server.store import frames, rule_states, runs, series
from trainvitals_server.store.transactions import Connection

MAX_PRODUCERS = 8192  # twice as many as may be connected; a sheet takes some 10 KiB, columns that no other has 0.4 each


@dataclass
class Sheet:
    """One producer's."""

    rules: Memory
    layouts: dict[int, series.Layout] = field(default_factory=dict)
    shared: dict[int, tuple[bool, ...]] = field(default_factory=dict)  # layout row id -> whether sharded, compared
    steps: dict[int, int] = field(default_factory=dict)  # layout row id -> its newest step


class Books:
    """Sheets by producer (row id). Used by the writer's thread only."""

    def __init__(self) -> None:
        self._sheets: OrderedDict[int, Sheet] = OrderedDict()  # the one used last at the end
        self._touched: set[int] = set()  # whose sheets were in use since the transaction began
        self.sums: dict[tuple[str, str], Any] = {}  # by run and launch: what joining.py adds up
        self.comparisons: dict[tuple[str, str], Any] = {}  # the same for comparing.py

    def sheet(self, connection: Connection, producer: int) -> Sheet:
        """The producer's sheet, opened if need be."""
        if producer not in self._sheets:
            if len(self._sheets) >= MAX_PRODUCERS:
                self._drop(next(iter(self._sheets)))
            self._sheets[producer] = Sheet(Memory(rule_states.load(connection, producer)))
        self._touched.add(producer)
        self._sheets.move_to_end(producer)
        return self._sheets[producer]

    def layout(self, connection: Connection, producer: int, number: int) -> series.Layout | None:
        """A layout by its number on the wire, once it is whole."""
        sheet = self.sheet(connection, producer)
        if number not in sheet.layouts:
            found = series.layout(connection, producer, number)
            if found is None or not found.whole:
                return None
            sheet.layouts[number] = found
        return sheet.layouts[number]

    def last_step(self, connection: Connection, producer: int, layout: int) -> int:
        """The newest step of a layout (row id); -1 before the first."""
        sheet = self.sheet(connection, producer)
        if layout not in sheet.steps:
            step = frames.last_step(connection, layout)
            sheet.steps[layout] = -1 if step is None else step
        return sheet.steps[layout]

    def change(self, who: runs.Producer, number: int) -> None:
        """A layout of a trainer's has another form from now on."""
        before = self._sheets[who.id].layouts.pop(number, None) if who.id in self._sheets else None
        if before is not None:
            forget_plan(before.declared)
        self.sums.pop((who.run, who.launch), None)
        self._stop_comparing(who)

    def close(self, who: runs.Producer) -> None:
        """A trainer has left: its sheet goes, and what was added up and compared with it, with the sheets that were
        opened for that. Whoever goes on opens its own again."""
        self._drop(who.id)
        for one in self.sums.pop((who.run, who.launch), ()):
            for source in one.sources:
                self._drop(source.layout.producer)
            forget_plan(one.target.declared)
        for one in self._stop_comparing(who):
            for source in one.sources:
                self._drop(source.producer)

    def _stop_comparing(self, who: runs.Producer) -> list[Any]:
        """Forget what is compared within this launch, and the plans of its blocks; what that was."""
        found: list[Any] = self.comparisons.pop((who.run, who.launch), [])
        for one in found:
            forget_plan(one.columns)
        return found

    def _drop(self, producer: int) -> None:
        sheet = self._sheets.pop(producer, None)
        for layout in sheet.layouts.values() if sheet is not None else ():
            forget_plan(layout.declared)

    def begin(self) -> None:
        """A transaction begins: what the books say now is on the disk."""
        self._touched.clear()

    def undo(self) -> None:
        """Something of this transaction was rolled back. Sheets that were not in use since it began are as they were;
        of the others nobody asks whether they were written on."""
        for producer in self._touched:
            self._drop(producer)
        self._touched.clear()
        self._forget_ranks()

    def forget(self) -> None:
        """Start afresh."""
        for producer in tuple(self._sheets):
            self._drop(producer)
        self._forget_ranks()

    def _forget_ranks(self) -> None:
        """What was added up and compared of several producers."""
        for found in self.comparisons.values():
            for one in found:
                forget_plan(one.columns)
        self.comparisons.clear()
        self.sums.clear()
