"""The trainer's side of the protocol, without I/O: what may be said in which state, and what follows from an answer.

    greeting --Welcome--> streaming --Ack, Nack, Command--> streaming

That is the table `NEXT`; any other message ends the connection. In `streaming` at most `MAX_IN_FLIGHT` batches are
unanswered. What a nack means is the table `ON_NACK`. The server is not trusted: it cannot acknowledge what it was never
sent, since that would be removed here.
"""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainvitals import wire
from trainvitals.errors import TrainvitalsError

MAX_WAIT = 0.05, 30.0  # seconds, least and most that a busy server is given


class State(enum.Enum):
    """Where a session is."""

    GREETING = "greeting"
    STREAMING = "streaming"


class ProtocolError(TrainvitalsError):
    """The server said what may not be said now."""


@dataclass
class Reaction:
    """What the shell has to do next: go back to record `rewind`, send nothing for `wait` seconds, note that all up to
    `committed` is on the server's disk, put record `set_aside` into quarantine, hand on `command`."""

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
    state: State = State.GREETING
    in_flight: deque[int] = field(default_factory=deque)  # last sequence number of each unanswered batch
    committed: int = -1  # everything up to here is on the server's disk
    sent_to: int = -1  # the newest record that the server can have

    def hello(self, first: int, following: int, ended: bool = False) -> wire.Hello:
        """The first message: records `first` to `following - 1` are held, of a process that has `ended` perhaps."""
        self.sent_to = following - 1  # over an earlier connection
        return wire.Hello(protocol=wire.PROTOCOL, identity=self.identity, first=first, next=following, ended=ended)

    def may_send(self) -> bool:
        """Whether another batch may go out."""
        return self.state is State.STREAMING and len(self.in_flight) < wire.MAX_IN_FLIGHT

    def sent(self, batch: wire.Batch) -> None:
        """A batch went out."""
        self.in_flight.append(batch.last)
        self.sent_to = max(self.sent_to, batch.last)

    def receive(self, message: wire.ToTrainer) -> Reaction:
        """What follows from a message. Raises ProtocolError where it may not come in this state."""
        following = NEXT.get((self.state, type(message)))
        if following is None:
            expected = " or ".join(kind.__name__ for state, kind in NEXT if state is self.state)
            raise ProtocolError(f"expected {expected} while {self.state.value}, got {type(message).__name__}")
        state, react = following
        reaction = react(self, message)
        self.state = state
        return reaction

    def _welcome(self, message: wire.Welcome) -> Reaction:
        if message.protocol != wire.PROTOCOL:
            raise ProtocolError(f"expected protocol {wire.PROTOCOL}, got {message.protocol}")
        # That may be less than it once had; or more than is held here, of a spool whose end a crash has torn off.
        self.committed = message.committed
        self.sent_to = max(self.sent_to, message.committed)
        return Reaction(rewind=self.committed + 1, committed=self.committed)

    def _ack(self, message: wire.Ack) -> Reaction:
        if message.seq > self.sent_to:
            raise ProtocolError(f"expected an ack of at most record {self.sent_to}, got {message.seq}")
        while self.in_flight and self.in_flight[0] <= message.seq:
            self.in_flight.popleft()
        self.committed = max(self.committed, message.seq)
        return Reaction(committed=self.committed)

    def _nack(self, message: wire.Nack) -> Reaction:
        return ON_NACK[message.kind](self, message)

    def _command(self, message: wire.Command) -> Reaction:
        return Reaction(command=message)

    def _again(self, nack: wire.Nack) -> Reaction:
        """A hole, or a busy server: everything behind what it has must come again. What was in flight will be answered
        too, but those answers no longer matter."""
        self.in_flight.clear()
        wait = max(MAX_WAIT[0], min(nack.after, MAX_WAIT[1])) if nack.kind == "retry" else 0.0
        return Reaction(rewind=self.committed + 1, wait=wait, reason=nack.reason)

    def _aside(self, nack: wire.Nack) -> Reaction:
        """It will never be accepted; the stream begins anew behind it, since nothing says what became of the rest of
        its batch. What the server has of that it will discard."""
        self.in_flight.clear()
        return Reaction(set_aside=nack.seq, rewind=max(nack.seq, self.committed) + 1, reason=nack.reason)


# (state, message) -> state, and what is made of the message. A pair that is not here ends the connection.
NEXT: dict[tuple[State, type[wire.Message]], tuple[State, Callable[[Session, Any], Reaction]]] = {
    (State.GREETING, wire.Welcome): (State.STREAMING, Session._welcome),
    (State.STREAMING, wire.Ack): (State.STREAMING, Session._ack),
    (State.STREAMING, wire.Nack): (State.STREAMING, Session._nack),
    (State.STREAMING, wire.Command): (State.STREAMING, Session._command),
}

ON_NACK: dict[str, Callable[[Session, wire.Nack], Reaction]] = {
    "gap": Session._again,
    "retry": Session._again,
    "permanent": Session._aside,
}
