"""The trainer's side of the protocol, without I/O: what may be said in which state, and what follows from an answer.

    greeting --Welcome--> streaming --(close)--> closed

In `streaming` at most `MAX_IN_FLIGHT` batches are unanswered. A nack rewinds, waits, or sets a record aside.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from trainvitals import wire
from trainvitals.errors import TrainvitalsError

State = Literal["greeting", "streaming", "closed"]


class ProtocolError(TrainvitalsError):
    """The server said what may not be said now."""


@dataclass
class Reaction:
    """What the shell has to do next."""

    rewind: int | None = None
    wait: float = 0.0
    committed: int | None = None
    set_aside: int | None = None
    command: wire.Command | None = None
    reason: str = ""


@dataclass
class Session:
    """One connection. Feed it what the server says; ask it whether a batch may be sent."""

    identity: wire.Identity
    state: State = "greeting"
    in_flight: deque[int] = field(default_factory=deque)  # last sequence number of each unanswered batch

    def hello(self, first: int, following: int) -> wire.Hello:
        """The first message: records `first` to `following - 1` are held."""
        return wire.Hello(protocol=wire.PROTOCOL, identity=self.identity, first=first, next=following)

    def may_send(self) -> bool:
        """Whether another batch may go out."""
        return self.state == "streaming" and len(self.in_flight) < wire.MAX_IN_FLIGHT

    def sent(self, batch: wire.Batch) -> None:
        """A batch went out."""
        self.in_flight.append(batch.last)

    def receive(self, message: wire.ToTrainer) -> Reaction:
        """What follows from a message. Raises ProtocolError where it may not come in this state."""
        if self.state == "greeting":
            return self._welcome(message)
        match message:
            case wire.Ack(seq=seq):
                while self.in_flight and self.in_flight[0] <= seq:
                    self.in_flight.popleft()
                return Reaction(committed=seq)
            case wire.Nack():
                return self._nack(message)
            case wire.Command():
                return Reaction(command=message)
        raise ProtocolError(f"expected ack, nack or command while {self.state}, got {type(message).__name__}")

    def _welcome(self, message: wire.ToTrainer) -> Reaction:
        if not isinstance(message, wire.Welcome):
            raise ProtocolError(f"expected welcome while {self.state}, got {type(message).__name__}")
        if message.protocol != wire.PROTOCOL:
            raise ProtocolError(f"expected protocol {wire.PROTOCOL}, got {message.protocol}")
        self.state = "streaming"
        return Reaction(rewind=message.committed + 1, committed=message.committed)

    def _nack(self, nack: wire.Nack) -> Reaction:
        self.in_flight.clear()
        match nack.kind:
            case "gap":
                return Reaction(rewind=nack.seq, reason=nack.reason)
            case "retry":
                return Reaction(rewind=nack.seq, wait=max(0.05, min(nack.after, 30.0)), reason=nack.reason)
            case "permanent":
                return Reaction(set_aside=nack.seq, rewind=nack.seq + 1, reason=nack.reason)
