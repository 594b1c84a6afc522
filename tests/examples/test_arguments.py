"""The training program's command line: the user's names, defaults that fit together, errors of one line."""

import pytest

from wavessm.arguments import parse_arguments


def test_defaults_scale_with_the_length_of_the_run():
    """Three bad steps and eight validations, whatever `--iters` says."""
    args = parse_arguments(["--iters", "400"])
    assert args.bad_steps == [85, 185, 285]
    assert (args.val_every, args.save_every) == (50, 50)
    assert parse_arguments(["--iters", "40"]).bad_steps == [8, 18, 28]


def test_a_very_short_run_still_validates():
    """An eighth of 5 is not 0."""
    assert parse_arguments(["--iters", "5"]).val_every == 1


def test_bad_steps_are_a_list_or_none():
    """As the user writes them."""
    assert parse_arguments(["--bad_steps", "60,140"]).bad_steps == [60, 140]
    assert parse_arguments(["--bad_steps", "none"]).bad_steps == []


def test_saving_follows_validation_unless_told_otherwise():
    """A checkpoint is judged by the validation before it."""
    assert parse_arguments(["--val_every", "7"]).save_every == 7
    assert parse_arguments(["--val_every", "7", "--save_every", "3"]).save_every == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--iters", "0"], "expected a whole number of at least 1, got '0'"),
        (["--bad_steps", "60,x"], "expected a whole number of at least 1, got 'x'"),
        (["--mode", "loud"], "invalid choice: 'loud'"),
        (["--auto_sanitize", "maybe"], "invalid choice: 'maybe'"),
        (["--resume", "--model_file", "nowhere.pth"], "expected a checkpoint to resume from at --model_file"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_the_reason(given, message, capsys):
    """argparse prints the usage and one line."""
    with pytest.raises(SystemExit) as end:
        parse_arguments(given)
    assert end.value.code == 2
    assert message in capsys.readouterr().err
