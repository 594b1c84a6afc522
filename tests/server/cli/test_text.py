"""What is shown on a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainvitals_server.cli.text import UNSAFE, cell, clock, count, moment, safe, show_json, table


@given(st.text())
def test_no_text_can_drive_a_terminal(text: str) -> None:
    """Whatever it holds, nothing in it moves the cursor or turns the direction."""
    assert not {unicodedata.category(char) for char in safe(text)} & UNSAFE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("two\nlines", "two\\nlines"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("grün Ω 模型", "grün Ω 模型"),
        ("\ud800", "\\ud800"),
    ],
)
def test_escapes_show_what_is_there(text: str, shown: str) -> None:
    """Letters of any language stay as they are."""
    assert safe(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("", "-"), (True, "yes"), (41203, "41,203"), (0.123456, "0.1235"), ("NaN", "NaN"), (1e-9, "1e-09")],
)
def test_a_cell_is_short(value: object, shown: str) -> None:
    """Non-finite numbers come as words, and stay words."""
    assert cell(value) == shown


def test_a_name_of_10_kilobytes_spoils_no_table() -> None:
    """Its beginning and end are shown."""
    shown = cell("a" * 5000 + "b" * 5000)
    assert len(shown) == 60
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    """The last column is as long as it is."""
    text = table(("NAME", "STEP", "WHAT"), [("a", 1, "x"), ("longer", 41203, "y" * 200)])
    assert text.splitlines()[:2] == ["NAME      STEP  WHAT", "a            1  x"]
    assert text.splitlines()[2] == "longer  41,203  " + "y" * 200


def test_times_are_shown_to_the_second() -> None:
    """In UTC, as they came."""
    assert clock("2026-11-23T08:01:49.123456Z") == "2026-11-23 08:01:49Z"
    assert clock("2026-11-23T08:01:49Z") == "2026-11-23 08:01:49Z"
    assert moment(1e6 + 0.5) == "1970-01-12 13:46:40Z"
    assert moment(1e300) == "1e+300"


def test_one_is_singular() -> None:
    """And thousands are separated."""
    assert [count(n, "record") for n in (0, 1, 2000)] == ["0 records", "1 record", "2,000 records"]
    assert clock(None) == "-"


def test_json_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Safe for a terminal and for a pipe."""
    show_json({"name": "\x1b\u202e\n"})
    assert capsys.readouterr().out == '{"name":"\\u001b\\u202e\\n"}\n'
