"""How damage is stepped over: what is whole is found again, what is not is never taken for a record."""

import random

import pytest

from trainvitals.delivery.segments import HEAD, Damage, count_heads, frame, parse, resume, walk

ROWS = [(seq, bytes([seq]) * (5 + seq)) for seq in range(3, 9)]
FRAMES = [frame(*row) for row in ROWS]
WHOLE = b"".join(FRAMES)


def rows(data: bytes) -> list[tuple[int, bytes]]:
    return [row for row in walk(data, 3) if isinstance(row, tuple)]


def damaged(data: bytes) -> int:
    return sum(row for row in walk(data, 3) if isinstance(row, Damage))


def test_a_whole_segment_is_read_through() -> None:
    """And nothing else is in it."""
    assert rows(WHOLE) == ROWS
    assert damaged(WHOLE) == 0


def test_every_bit_of_a_frame_in_the_midst_costs_that_frame_alone() -> None:
    """Whether it is in the length, the checksum, the number or the payload."""
    begin = len(b"".join(FRAMES[:2]))
    for bit in range(begin * 8, (begin + len(FRAMES[2])) * 8):
        data = bytearray(WHOLE)
        data[bit // 8] ^= 1 << bit % 8
        assert rows(bytes(data)) == [*ROWS[:2], *ROWS[3:]], bit
        assert damaged(bytes(data)) == len(FRAMES[2])


def test_cut_at_every_byte_the_beginning_is_read() -> None:
    """The rest is counted in bytes."""
    ends = [len(b"".join(FRAMES[: place + 1])) for place in range(len(FRAMES))]
    for length in range(len(WHOLE)):
        kept = [row for row, end in zip(ROWS, ends, strict=True) if end <= length]
        assert rows(WHOLE[:length]) == kept
        assert damaged(WHOLE[:length]) == length - (ends[len(kept) - 1] if kept else 0)


@pytest.mark.parametrize("noise", ["zeros", "random", "frames of long ago"])
def test_whatever_lies_between_is_passed_over(noise: str) -> None:
    """A page of zeros, of noise, or of a file that was there before."""
    between = {
        "zeros": bytes(5000),
        "random": random.Random(0).randbytes(5000),
        "frames of long ago": frame(0, b"old") + frame(1, b"old"),
    }[noise]
    data = FRAMES[0] + between + FRAMES[1]
    assert rows(data) == ROWS[:2]
    assert damaged(data) == len(between)


def test_numbers_never_go_back() -> None:
    """A frame with a number that has been read is damage too."""
    assert rows(FRAMES[1] + FRAMES[0] + FRAMES[2]) == [ROWS[1], ROWS[2]]


def test_a_large_segment_of_noise_is_searched_in_no_time() -> None:
    """Eight megabytes, among them many zeros: in bytes, not in frames."""
    data = random.Random(1).randbytes(4 << 20) + bytes(4 << 20) + FRAMES[0]
    assert resume(data, 0, 1, 100) == len(data) - len(FRAMES[0])
    assert resume(data[:-1], 0, 1, 100) is None


def test_a_torn_tail_tells_how_many_records_it_held() -> None:
    """By the heads that can be read; at least one."""
    spoiled = bytearray(WHOLE)
    spoiled[HEAD.size] ^= 1
    assert parse(bytes(spoiled), 0) is None
    assert count_heads(bytes(spoiled), 3) == len(ROWS)
    assert count_heads(WHOLE[:10], 3) == 1
    assert count_heads(b"\xff" * 100, 3) == 1
