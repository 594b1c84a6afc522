"""Every message between trainer and server: its fields, its version, its bytes.

Nothing that crosses the network or lands in a spool is described anywhere else. Messages are msgspec structs in
MessagePack, told apart by the tag ``t``. Unknown fields are ignored and missing ones take their defaults, so fields
may be added; a change that is more than that raises `PROTOCOL`. Non-finite numbers are ordinary values.

Three unions, one for each direction and one for what is kept:

- `Record`: what a trainer observed. Records are numbered by the spool without gaps and stored by the server.
- `ToServer`: `Hello`, then `Batch`es of encoded records, ahead of them perhaps `Layouts`.
- `ToTrainer`: `Welcome`, `Ack`, `Nack`, `Command`.

This module imports nothing of ours and never torch.
"""

from typing import Any, Literal

import msgspec

PROTOCOL = 2  # 2: a gap may stand for many numbers (`Gap.through`)

# Limits both sides know (delivery rules 7 and design "Record and series").
MAX_MESSAGE_BYTES = 1 << 20
MAX_BATCH_BYTES = 256 << 10
MAX_BATCH_RECORDS = 500
MAX_LAYOUT_BYTES = 64 << 10
MAX_IN_FLIGHT = 4
MAX_SEQUENCE = 1 << 53  # sequence numbers are below

# What a run's or producer's id may be: it becomes a folder's name and part of an address.
ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}"

FP16_MAX = 65504.0

# Kinds of series, and the statistics each kind has. `layer` is "" for kinds "run" and "metric".
RUN = "run"  # the whole run
PARAMETER = "parameter"  # one parameter tensor
NORM = "norm"  # one module that keeps running statistics
INPUT = "input"  # the input of one sampled module, as fp16 sees it
METRIC = "metric"  # a number the user passed to `watch.step`

LOSS = "loss"
GRAD_NORM = "grad_norm"  # L2, unscaled, before clipping
CLIP_RATIO = "clip_ratio"  # by how much clipping shortened the gradients, measured at one of them; 1 is not at all
GRAD_NORM_CLIPPED = "grad_norm_clipped"  # L2 after clipping, of what the first optimizer owns
LEARNING_RATE = "lr"  # further parameter groups: "lr.1", "lr.2", ...
LOSS_SCALE = "loss_scale"
SKIPPED = "skipped"  # 1 when the grad scaler skipped the step, else 0
OUTPUT_NONFINITE = "output_nonfinite"  # non-finite elements of the output given to `watch.step`
STEP_TIME = "step_time"  # seconds from boundary to boundary
HOOK_TIME = "hook_time"  # seconds of the training thread's CPU spent in the hook

# What ranks other than 0 send in place of their layers, beside the above and the worst range over all layers (kind
# "run", the four statistics of ranges below).
NONFINITE_GRADIENTS = "nonfinite_gradients"  # parameters whose gradient norm is not finite
CORRUPT_LAYERS = "corrupt_layers"  # layers with non-finite or negative channels

MEAN_MIN = "running_mean.min"
MEAN_MAX = "running_mean.max"
VAR_MIN = "running_var.min"
VAR_MAX = "running_var.max"
NONFINITE_CHANNELS = "nonfinite_channels"
NEGATIVE_CHANNELS = "negative_channels"
NORM_STATS = (MEAN_MIN, MEAN_MAX, VAR_MIN, VAR_MAX, NONFINITE_CHANNELS, NEGATIVE_CHANNELS)
# The largest, over channels, distance of the batch's mean from the running mean before it, in standard deviations of
# the layer. Absent until the layer's averages have settled, and wherever it is not known.
BATCH_SHIFT = "batch_shift"
VAR_ROOM = "var_room"  # 65504 / largest running variance, of statistics held in fp16; absent elsewhere

WEIGHT_NORM = "weight_norm"  # L2 of a parameter, every `health_every` steps
MOMENT_NORM = "moment_norm"  # sum of the L2 norms of its optimizer state

HEADROOM = "headroom"  # 65504 / amax of a module's input after its cast to fp16; 0 once it overflowed

# Where parameters are sharded, a norm's statistic carries this ending: the squared L2 norm of what this rank holds, 0
# where another rank counts the same. The server adds the ranks up and stores the root under the name without it.
SHARD = ".shard"

# What each of several ranks tells of its own layers every `health_every` steps, under statistics with this ending, in a
# layout of its own. The server compares the ranks, and tells for a run how far they are apart: how many times the
# others' median the rank that differs most has, or they its value; 1 is not at all.
COMPARED = ".compared"
WEIGHTS_APART = "weights_apart"  # by the norm of the parameter that differs most
STATISTICS_APART = "statistics_apart"  # by the largest running variance of the layer that differs most

CommandState = Literal["requested", "delivered", "applied", "verified", "refused", "failed", "expired", "unknown"]
Action = Literal["sanitize", "undo", "resume_repair", "save_checkpoint", "stop"]
Strategy = Literal["restore", "reset"]
Origin = Literal["auto", "health", "validation", "load", "save", "command"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t"):
    """Base of everything on the wire."""


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One column: `id` is stable within its producer, `order` is the place in forward order (registration order
    until the first forward has been seen). It refers to nothing that could refer back, and a server holds hundreds of
    thousands: the collector of cycles need not walk through them (a tenth of a second each time)."""

    id: int
    layer: str
    kind: str
    stat: str
    order: int = 0


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is speaking: one producer (one process's strictly increasing steps) of one run. Times are Unix seconds.

    `rank` is the place among the `world_size` processes that train together."""

    run: str
    producer: str
    name: str
    project: str = "default"
    config: dict[str, Any] = {}
    rank: int = 0
    world_size: int = 1
    launch: str = ""  # the same for the producers of all ranks that step together; "": not known
    follows: bool = False  # its statistics are rank 0's, copied at each forward: there is nothing to repair
    host: str = ""
    pid: int = 0
    started: float = 0.0
    allow: list[str] = []
    auto_sanitize: str = "restore"
    versions: dict[str, str] = {}


# --- records -------------------------------------------------------------------------------------------------------


class Layout(Message, frozen=True, tag="layout"):
    """Columns `offset` to `offset + len(series)` of the `total` columns of layout `id`; large layouts come in
    pieces, the last piece of which completes it."""

    id: int
    offset: int
    total: int
    series: list[Series]


class Frame(Message, frozen=True, tag="frame"):
    """One step's vector: float32, little-endian, one value per column of `layout`. Where `present` is given it is a
    bitmap, least significant bit first; a column whose bit is 0 is absent, which is not the same as NaN."""

    layout: int
    step: int
    time: float
    values: bytes
    present: bytes | None = None


class Event(Message, frozen=True):
    """Something that happened at a step; never thinned."""

    step: int
    time: float


class NonFinite(Event, frozen=True, tag="nonfinite"):
    """The first non-finite value of a layer and signal since it was last finite. `count` of `total` channels (or
    elements; -1 where only the norm is known) are affected. `passing`: this rank's statistics are replaced by rank 0's
    at the next forward, so nothing is broken for longer than a step."""

    layer: str
    signal: str  # running_statistics, gradient, loss, output
    kind: Literal["nan", "inf", "negative"]
    count: int = -1
    total: int = -1
    order: int = 0
    skipped: bool = False
    passing: bool = False
    headroom: float | None = None  # the least seen at or before this layer in the last sampled step


class Room(msgspec.Struct, frozen=True, array_like=True):
    """A sample of fp16 headroom: the least at or before a layer, and whose input it was."""

    step: int
    layer: str
    value: float


class Culprit(Event, frozen=True, tag="origin"):
    """What broke first in a step in which something became non-finite; found by running its batch once more, under
    hooks. `layer` is the first module that made `kind` out of finite inputs and weights ("" for the input and the
    loss), `type` its class; where its own code broke between two of its parts, `before` is the part that was about to
    run. `count` of `total` channels of its output were affected; `amax` is the largest magnitude that went in.

    `place` tells what `layer` is: a module; the weights or running statistics of one, which were broken before; the
    input; a module whose backward broke though its forward was finite; the loss (or its gradient); the loss scale (the
    scaled gradients overflowed, the forward was finite); elsewhere (another rank); unknown, where `candidates` are all
    that is known."""

    place: Literal["module", "weights", "statistics", "input", "backward", "loss", "loss_scale", "elsewhere", "unknown"]
    signal: str  # what showed it: gradient, running_statistics, loss, output
    kind: Literal["nan", "inf", "negative"]
    layer: str = ""
    type: str = ""
    before: str = ""
    count: int = -1
    total: int = -1
    precision: str = ""  # dtype of the module's output: float16, bfloat16, float32
    skipped: bool = False
    amax: float | None = None
    headroom: list[Room] = []  # sampled in the 64 steps before
    norm: str = ""  # the first layer whose running statistics broke, else the one nearest to `layer` ...
    batch_mean: list[float] = []  # ... and the range of its batch's mean and variance, from two successive readings
    batch_var: list[float] = []
    candidates: list[str] = []
    batch: str = ""  # the file that keeps the failing batch, on the trainer's machine


class Repair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one sanitization did, or would do, to one layer. `before` and `after` are [min, max] per buffer."""

    layer: str
    channels: int
    total: int
    strategy: Strategy  # what was used: restore falls back to reset where no good snapshot exists
    buffers: list[str]
    snapshot_step: int | None = None
    before: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {}


class Sanitized(Event, frozen=True, tag="sanitized"):
    """One pass over the model that repaired something, however many layers."""

    origin: Origin
    strategy: Strategy
    repairs: list[Repair]
    command: str | None = None
    upstream: str = ""


class HealthCheck(Event, frozen=True, tag="health"):
    """A check of the statistics and, at `health_every`, of the weights. `keys` names the corrupt tensors, the first
    200 of `count`."""

    origin: Origin
    healthy: bool
    keys: list[str] = []
    count: int = 0


class Validation(Event, frozen=True, tag="validation"):
    """One validation. `failed` batches are `errors` (exceptions) plus `nonfinite` (outputs or losses)."""

    valid: int
    errors: int
    nonfinite: int
    total: int | None = None
    tainted: bool = False  # run on a model whose statistics were non-finite, whatever its losses
    mean_loss: float | None = None
    metrics: dict[str, float] = {}
    duration: float = 0.0
    model: str = ""


class Checkpoint(Event, frozen=True, tag="checkpoint"):
    """A checkpoint saved, or refused because of the tensor `key`."""

    outcome: Literal["saved", "refused", "failed"]
    path: str
    best: bool = False
    metric: float | None = None
    key: str | None = None
    reason: str = ""
    repaired: bool = False


class CommandUpdate(Event, frozen=True, tag="command"):
    """A command's progress as the trainer saw it."""

    id: str
    state: CommandState
    reason: str = ""
    result: dict[str, Any] = {}


class Lifecycle(Event, frozen=True, tag="lifecycle"):
    """The trainer's own state; how it ended, and by which exception."""

    state: Literal["starting", "live", "finished", "failed"]
    reason: str = ""
    error: str = ""
    traceback: str = ""


class ProbeFault(Event, frozen=True, tag="fault"):
    """A probe raised; after repeated faults it is disabled. Training went on."""

    probe: str
    error: str
    disabled: bool = False


class Notice(Event, frozen=True, tag="notice"):
    """Something the reader of the run must know: repairs halted or resumed, probes thinned, layers changed."""

    code: str
    text: str


class Gap(Message, frozen=True, tag="gap"):
    """`count` records between these times were lost, and why.

    Without `through` they were lost before they were numbered, and the gap is one record with one number. With
    `through` they had the numbers from the gap's own to `through`, both included, and the gap stands for all of them:
    `count` is then that many, since what was not lost keeps its number and ends the span. Such a gap is the last
    record of its batch; the next batch begins at `through` + 1."""

    count: int
    reason: str
    since: float
    until: float
    first_step: int | None = None
    last_step: int | None = None
    through: int | None = None


Record = (
    Layout
    | Frame
    | NonFinite
    | Culprit
    | Sanitized
    | HealthCheck
    | Validation
    | Checkpoint
    | CommandUpdate
    | Lifecycle
    | ProbeFault
    | Notice
    | Gap
)

# --- trainer to server ---------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """The first message. Records `first` to `next - 1` are held by the trainer's spool. `ended`: its process has, and
    another one brings what it left, so that this is no sign of life."""

    protocol: int
    identity: Identity
    first: int
    next: int
    ended: bool = False


class Batch(Message, frozen=True, tag="batch"):
    """Encoded records numbered `first`, `first + 1`, ... Each is decoded by itself, so that one bad record spoils
    no other. A gap that stands for several numbers may only be the last one.

    `epilogue`: another process says of the one that recorded all before how that ended, as far as it can know. These
    records are stored under their numbers, and an ack of them says so, but the numbers stay free: should that process
    live after all, its own next records take their place."""

    first: int
    records: list[bytes]
    epilogue: bool = False

    @property
    def last(self) -> int:
        """The last number it stands for."""
        own = self.first + len(self.records) - 1
        through = spans(own, self.records[-1]) if self.records else None
        return own if through is None else through


class Layouts(Message, frozen=True, tag="layouts"):
    """Encoded layouts, of records that the trainer no longer holds and the server does not have either. Sent behind the
    welcome, ahead of the frames that are read by them; it has no number and no answer."""

    records: list[bytes]


ToServer = Hello | Batch | Layouts

# --- server to trainer ---------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """Everything up to and including `committed` is on the server's disk; resume behind it. -1: nothing yet."""

    protocol: int
    committed: int


class Ack(Message, frozen=True, tag="ack"):
    """Everything up to and including `seq` has been committed."""

    seq: int


class Nack(Message, frozen=True, tag="nack"):
    """`gap`: send again from `seq`. `retry`: the same again after `after` seconds. `permanent`: record `seq` will
    never be accepted, set it aside and go on."""

    kind: Literal["gap", "retry", "permanent"]
    seq: int
    after: float = 0.0
    reason: str = ""


class Command(Message, frozen=True, tag="command"):
    """A request to the trainer. `expires` (Unix seconds, the server's clock) bounds the delivery; `ttl` is what was
    left of it when this was sent, for trainers whose clock differs."""

    id: str
    producer: str
    action: Action
    ttl: float
    expires: float
    strategy: Strategy | None = None
    layers: list[str] | None = None
    dry_run: bool = False
    of: str | None = None


ToTrainer = Welcome | Ack | Nack | Command


def _plain(value: Any) -> Any:
    """Numbers of numpy and tensors of one element pass for what they hold."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"expected a value that MessagePack can hold, got {type(value).__name__}")


class _Tagged(msgspec.Struct, frozen=True):
    t: str


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_tagged = msgspec.msgpack.Decoder(_Tagged)
_record = msgspec.msgpack.Decoder(Record)
_to_server = msgspec.msgpack.Decoder(ToServer)
_to_trainer = msgspec.msgpack.Decoder(ToTrainer)


def encode(message: Message) -> bytes:
    """The message's bytes. Raises TypeError for values MessagePack cannot hold."""
    return _encoder.encode(message)


def decode_record(data: bytes) -> Record:
    """A record from its bytes. Raises `msgspec.DecodeError` (of which a wrong type is a `ValidationError`)."""
    record: Record = _record.decode(data)
    return record


def tag(data: bytes) -> str:
    """What kind of message these bytes are, without decoding the rest; "" where they are none."""
    try:
        return _tagged.decode(data).t
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def spans(seq: int, data: bytes) -> int | None:
    """The last number that record `seq` stands for, where it is a gap that stands for several; else None."""
    if tag(data) != "gap":
        return None
    try:
        record = decode_record(data)
    except msgspec.DecodeError:
        return None
    through = record.through if isinstance(record, Gap) else None
    return through if through is not None and seq <= through < MAX_SEQUENCE else None


def decode_to_server(data: bytes) -> ToServer:
    """A message from a trainer. Raises `msgspec.DecodeError`."""
    message: ToServer = _to_server.decode(data)
    return message


def decode_to_trainer(data: bytes) -> ToTrainer:
    """A message from a server. Raises `msgspec.DecodeError`."""
    message: ToTrainer = _to_trainer.decode(data)
    return message
