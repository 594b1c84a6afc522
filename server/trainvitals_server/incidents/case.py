"""An incident while it is put together."""

from collections.abc import Iterable
from itertools import groupby

import msgspec

from trainvitals import wire
from trainvitals_server.incidents import sentences
from trainvitals_server.incidents.advising import advise
from trainvitals_server.incidents.incident import Incident, Link

STATISTICS = "running_statistics"
OPENING = {"headroom": 0, "origin": 1, "skipped": 2, "nonfinite": 3}  # causes before consequences within one step
SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
GOOD = "good "  # begins the kinds of consequence that speak for the model
UNKNOWN = wire.NonFinite(step=0, time=0.0, layer="", signal="", kind="nan")


class Case:
    """`broken` holds the (signal, layer) pairs that are bad now; `healed` the step at which none was left; `proved`
    whether something has shown since that all is well."""

    def __init__(self, overflows: list[wire.NonFinite]) -> None:
        self.breaks = overflows
        self.origin: wire.Culprit | None = None
        self.links: list[Link] = []
        self.repairs: list[wire.Sanitized] = []
        self.broken: set[tuple[str, str]] = set()
        self.healed: int | None = None
        self.proved = False
        self._told: dict[str, int] = {}  # how often each kind of consequence came
        self._again: dict[str, int] = {}  # where the link that counts the later ones is

    @property
    def since(self) -> int:
        """The step of the first thing known."""
        return min([*(event.step for event in self.breaks), *(link.step for link in self.links)])

    @property
    def healable(self) -> bool:
        """Whether a good validation or a saved checkpoint may count: not while statistics are known to be bad."""
        return self.healed is not None or not any(signal == STATISTICS for signal, _ in self.broken)

    def add(self, event: wire.NonFinite) -> None:
        """A layer broke, or was seen late to have broken."""
        self.breaks.append(event)
        repaired = {repair.layer for one in self.repairs if one.step >= event.step for repair in one.repairs}
        if lasting(event) and event.layer not in repaired:
            self.broken.add((event.signal, event.layer))
            self.healed, self.proved = None, False

    def trace(self, event: wire.Culprit) -> None:
        """A replay of a batch found what broke first; the first answer counts."""
        if self.origin is None or event.step < self.origin.step:
            self.origin = event

    def corrupt(self, event: wire.Event, keys: Iterable[str], kind: str, text: str) -> None:
        """A consequence that shows the model broken; after a repair: that the repair did not hold."""
        layers = [key.rpartition(".")[0] for key in keys]
        if not self.broken:
            signal = STATISTICS if all(sentences.is_statistic(key) for key in keys) else "weights"
            self.broken = {(signal, layer) for layer in layers or [""]}
        self.healed = None
        self._told = {said: count for said, count in self._told.items() if not said.startswith(GOOD)}
        self.tell(event, kind, layers[0] if layers else None, text)

    def repair(self, event: wire.Sanitized) -> None:
        """A pass over the model. What is not a statistic stays broken; what only its consequences showed does not."""
        self.repairs.append(event)
        layers = {repair.layer for repair in event.repairs}
        self.broken = {
            pair for pair in self.broken if pair[0] != STATISTICS or not (pair[1] in layers or pair[1] == "")
        }
        if not self.broken:
            self.healed = event.step
        self.note(event, event.repairs[0].layer if event.repairs else None, sentences.repaired(event))

    def clean(self, event: wire.HealthCheck, *, weights: bool) -> None:
        """A check found nothing: of statistics always, of weights where it looked at them."""
        self.broken = {pair for pair in self.broken if pair[0] != STATISTICS and not weights}
        if not self.broken:
            self.healed = event.step if self.healed is None else self.healed
            self.prove(event, "clean", sentences.healthy(event))

    def prove(self, event: wire.Event, kind: str, text: str) -> None:
        """Something that shows the model well again; the first of each kind joins the chain."""
        self.broken = set()
        self.healed = event.step if self.healed is None else self.healed
        if GOOD + kind not in self._told:
            self._told[GOOD + kind] = 1
            self.note(event, None, text)
        self.proved = True

    def note(self, event: wire.Event, layer: str | None, text: str) -> None:
        """Add a link."""
        self.links.append(Link(step=event.step, time=event.time, type=sentences.tag(event), layer=layer, text=text))

    def tell(self, event: wire.Event, kind: str, layer: str | None, text: str) -> None:
        """Add a link for the first consequence of a kind; count the others in one more."""
        count = self._told[kind] = self._told.get(kind, 0) + 1
        if count == 1:
            self.note(event, layer, text)
        elif kind not in self._again:
            self._again[kind] = len(self.links)
            self.note(event, layer, text)
        else:
            said = f"{text} It is number {count} of its kind since the first."
            link = Link(step=event.step, time=event.time, type=sentences.tag(event), layer=layer, text=said)
            self.links[self._again[kind]] = link

    def close(self) -> Incident:
        """The incident as far as it is known."""
        first = self.first()
        skipped = any(event.skipped for event in self.breaks if event.step == first.step)
        rooms = [event.headroom for event in self.breaks if event.headroom is not None and event.step == first.step]
        headroom = min(rooms, default=None)
        layers = list(dict.fromkeys(event.layer for event in self.culprits() if event.layer))
        norms = list(dict.fromkeys(one.layer for one in self.culprits() if one.layer and one.signal == STATISTICS))
        if not layers and first.layer:
            layers = [first.layer]
        chain = sorted([*self.causes(first, headroom, skipped), *self.links], key=place)
        return Incident(
            first_bad_step=first.step,
            first_bad_layer=first.layer or None,
            channels=first.count if first.count >= 0 else None,
            kind=first.kind if self.culprits() else "unknown",
            precision=self.precision(headroom is not None or skipped),
            headroom=headroom,
            open=self.healed is None,
            last_step=max(link.step for link in chain),
            chain=chain,
            sanitizations=len(self.repairs),
            advice=advise(self.breaks, self.repairs, layers, self.origin),
            layers=layers,
            norms=norms,
            healed_step=self.healed,
            origin=self.origin.place if self.origin else None,
            origin_layer=(self.origin.layer or None) if self.origin else None,
        )

    def precision(self, scaled: bool) -> str | None:
        """That of the layer a replay named; else fp16 where a scaler or a sample of headroom shows it."""
        if self.origin is not None and self.origin.precision:
            return SHORT.get(self.origin.precision, self.origin.precision)
        return "fp16" if scaled else None

    def culprits(self) -> list[wire.NonFinite]:
        """What broke and stayed broken, statistics before other signals within a step, then in forward order."""
        return sorted(filter(lasting, self.breaks), key=rank)

    def first(self) -> wire.NonFinite:
        """The first thing that broke; where only its consequences were seen, what they name."""
        culprits = self.culprits()
        if culprits:
            return culprits[0]
        link = self.links[0]
        known = self.repairs[0].repairs[0] if self.repairs and self.repairs[0].repairs else None
        named = link.layer or (known.layer if known else "")
        channels = known.channels if known and known.layer == named else -1
        return msgspec.structs.replace(UNKNOWN, step=link.step, time=link.time, layer=named, count=channels)

    def causes(self, first: wire.NonFinite, headroom: float | None, skipped: bool) -> Iterable[Link]:
        """The links up to and including everything that broke."""
        if headroom is not None:
            yield self._cause(first, "headroom", first.layer, sentences.headroom(first, headroom))
        if self.origin is not None:
            text = sentences.origin(self.origin)
            layer = self.origin.layer or None
            yield Link(step=self.origin.step, time=self.origin.time, type="origin", layer=layer, text=text)
        if skipped:
            yield self._cause(first, "skipped", "", sentences.skipped(first.step))
        for _, group in groupby(sorted(self.breaks, key=rank), key=lambda event: (event.step, event.signal)):
            events = list(group)
            yield self._cause(events[0], "nonfinite", events[0].layer, sentences.broke(events))

    @staticmethod
    def _cause(event: wire.NonFinite, kind: str, layer: str, text: str) -> Link:
        return Link(step=event.step, time=event.time, type=kind, layer=layer or None, text=text)


def lasting(event: wire.NonFinite) -> bool:
    """Whether no skipped step has undone it: a skipped gradient reaches no weight, but statistics are kept."""
    return event.signal == STATISTICS or not event.skipped


def rank(event: wire.NonFinite) -> tuple[int, bool, str, int]:
    """By step; within one, statistics first, then by signal, each in forward order."""
    return event.step, event.signal != STATISTICS, event.signal, event.order


def place(link: Link) -> tuple[int, int]:
    """Where a link stands: by step, causes before consequences."""
    return link.step, OPENING.get(link.type, len(OPENING))
