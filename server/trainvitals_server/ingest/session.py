"""A trainer's session without its socket: what may be said when, and what is answered.

AWAITING_HELLO --Hello--> STREAMING --Layouts, Batch--> STREAMING; anything else, or an undecodable message, ends it.
The socket hands in what came (`receive`) and what the store made of it (`welcome`, `answer`), and does as it is told.
"""

import enum
import re
from dataclasses import dataclass

import msgspec

from trainvitals import wire
from trainvitals_server.ingest.freeform import check_free

HELLO_SECONDS = 5.0
RETRY_SECONDS = 1.0
MAX_SEQUENCE = wire.MAX_SEQUENCE
RUN_ID = re.compile(wire.ID_PATTERN)
POLICY, NOT_DECODABLE = 1008, 1007  # websocket close codes


class State(enum.Enum):
    """Where a session is."""

    AWAITING_HELLO = "awaiting hello"
    STREAMING = "streaming"
    CLOSED = "closed"


# (state, message) -> state. A pair that is not here closes the session.
NEXT: dict[tuple[State, type[wire.Message]], State] = {
    (State.AWAITING_HELLO, wire.Hello): State.STREAMING,
    (State.STREAMING, wire.Layouts): State.STREAMING,
    (State.STREAMING, wire.Batch): State.STREAMING,
}


@dataclass(frozen=True)
class Close:
    """End the connection, with this code and reason."""

    code: int
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What the store made of a batch: up to where records are stored (the watermark, or an epilogue's end), whether the
    batch began behind that (a hole), and the records that will never be accepted, with the reason."""

    committed: int
    hole: bool = False
    rejected: tuple[tuple[int, str], ...] = ()


class Session:
    """One connection's."""

    def __init__(self) -> None:
        self.state = State.AWAITING_HELLO
        self._ended = False  # whoever speaks does it for a trainer that has ended
        self._hole: tuple[int, int] | None = None  # what was asked for last, and the newest batch behind it

    def receive(self, data: bytes) -> wire.ToServer | Close:
        """What to do about a message: enter, describe, store, or close."""
        try:
            message = wire.decode_to_server(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self.close(NOT_DECODABLE, f"expected a wire message, got {error}")
        following = NEXT.get((self.state, type(message)))
        if following is None:
            return self.close(POLICY, f"got {type(message).__name__} while {self.state.value}")
        reason = objection(message) if isinstance(message, wire.Hello) else excess(message)
        if isinstance(message, wire.Batch) and message.epilogue and not self._ended:
            reason = "expected records of a trainer that is here, got what another one says of its end"
        if reason:
            return self.close(POLICY, reason)
        if isinstance(message, wire.Hello):
            self._ended = message.ended
        self.state = following
        return message

    def close(self, code: int, reason: str) -> Close:
        """End the session; a close frame has room for 123 bytes."""
        self.state = State.CLOSED
        return Close(code, reason.encode()[:120].decode(errors="ignore"))

    def welcome(self, committed: int) -> wire.Welcome:
        """The answer to a hello."""
        return wire.Welcome(protocol=wire.PROTOCOL, committed=committed)

    def answer(self, first: int, outcome: Outcome) -> list[wire.Ack | wire.Nack]:
        """The answer to the batch that begins with record `first`."""
        if outcome.hole:
            return self._ask(first, outcome.committed + 1)
        self._hole = None
        rejected = [wire.Nack(kind="permanent", seq=seq, reason=reason) for seq, reason in outcome.rejected]
        return [*rejected, wire.Ack(seq=outcome.committed)]

    def retry(self, first: int, reason: str) -> wire.Nack:
        """The answer where the store could not take the batch now."""
        self._hole = None
        return wire.Nack(kind="retry", seq=first, after=RETRY_SECONDS, reason=reason)

    def _ask(self, first: int, expected: int) -> list[wire.Ack | wire.Nack]:
        """A hole is nacked once for all that was in flight behind it; where batches begin anew, the one that was asked
        for did not come, and it is asked for again."""
        asked, newest = self._hole or (-1, -1)
        self._hole = expected, first
        return [] if asked == expected and first > newest else [wire.Nack(kind="gap", seq=expected)]


def objection(hello: wire.Hello) -> str:
    """Why a hello cannot be accepted; "" where it can."""
    if hello.protocol != wire.PROTOCOL:
        return f"expected protocol {wire.PROTOCOL}, got {hello.protocol}"
    for name in ("run", "producer"):
        if not RUN_ID.fullmatch(getattr(hello.identity, name)):
            return f"expected a {name} id of 1 to 128 letters, digits, '._:~-', got {getattr(hello.identity, name)!r}"
    for name in ("rank", "world_size", "pid"):
        if not 0 <= getattr(hello.identity, name) < 1 << 31:
            return f"expected a {name} from 0 to 2**31 - 1, got {getattr(hello.identity, name)}"
    if not 0 <= hello.first <= hello.next < MAX_SEQUENCE:
        return f"expected 0 <= first <= next, got {hello.first} and {hello.next}"
    try:
        check_free(hello.identity.config, "config")
    except ValueError as error:
        return str(error)
    return ""


def excess(batch: wire.Batch | wire.Layouts) -> str:
    """Why a batch is too large; "" where it is not. One record alone may be as long as a message may be."""
    if len(batch.records) > wire.MAX_BATCH_RECORDS:
        return f"expected at most {wire.MAX_BATCH_RECORDS} records in a batch, got {len(batch.records)}"
    size = sum(map(len, batch.records))
    if len(batch.records) > 1 and size > wire.MAX_BATCH_BYTES:
        return f"expected at most {wire.MAX_BATCH_BYTES} bytes of records in a batch, got {size}"
    return ""
