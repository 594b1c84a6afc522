"""The training loop with the hook off breaks as the user's did, by itself; with the hook it can be resumed."""

import json
import math

import pytest
import torch

from wavessm.trainer import main, train

FIRST_KEY = "refinement_ffc.scales.0.ffc.local_conv.1.running_mean"
SHORT = ("--iters", "12", "--batch_size", "2", "--val_every", "4", "--bad_steps", "6", "--mode", "disabled")


@pytest.fixture(scope="module")
def stuck(tmp_path_factory):
    """One short float16 run with an over-exposed frame at iteration 6 and no hook: the finished training."""
    from wavessm.arguments import parse_arguments

    folder = tmp_path_factory.mktemp("stuck")
    files = ["--model_file", str(folder / "wavessm_x.pth"), "--json_out", str(folder / "diary.json")]
    return train(parse_arguments([*SHORT, *files]))


def test_without_the_hook_no_batch_is_valid_from_the_corruption_on(stuck):
    """All batches before, none after, as long as the run lasts."""
    points = [(point.step, point.valid, point.failed) for point in stuck.diary.validations]
    assert points == [(4, 6, 0), (8, 0, 6), (12, 0, 6)]


def test_checkpoints_are_refused_at_the_users_key(stuck):
    """The one from before the corruption stays the newest."""
    assert [(point.saved, point.key) for point in stuck.diary.checkpoints] == [
        (True, None),
        (False, FIRST_KEY),
        (False, FIRST_KEY),
    ]
    saved = torch.load(stuck.args.model_file, weights_only=True)
    assert saved["n_iter"] == 4
    assert saved["model"][FIRST_KEY].isfinite().all()


def test_the_scaler_skipped_the_bad_step_alone(stuck):
    """The loss of that step is NaN, all others are finite, and so is every weight: training looks well."""
    losses = stuck.diary.train_loss()
    assert [step for step, loss in enumerate(losses, 1) if not math.isfinite(loss)] == [6]
    assert all(parameter.isfinite().all() for parameter in stuck.model.parameters())
    assert stuck.scaler.get_scale() == 2048.0


def test_the_diary_spells_non_finite_losses(stuck):
    """JSON has no NaN."""
    content = json.loads(stuck.args.json_out.read_text())
    assert content["train_loss"][5] == "NaN"
    assert content["validations"][1] == {
        "step": 8,
        "valid": 0,
        "failed": 6,
        "total": 6,
        "loss": None,
        "psnr": None,
        "ssim": None,
    }


def test_a_run_repeats_bit_for_bit(arguments):
    """The same seed gives the same weights."""
    given = ("--iters", "3", "--batch_size", "2", "--mode", "disabled", "--bad_steps", "none")
    one, two = (train(arguments(*given)).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_resumed_run_ends_where_an_unbroken_one_does(arguments):
    """Weights, optimizer, scaler and batches go on from the checkpoint."""
    given = ("--batch_size", "2", "--mode", "disabled", "--val_every", "2", "--bad_steps", "none")
    whole = train(arguments("--iters", "4", *given))
    train(arguments("--iters", "2", *given))
    resumed = train(arguments("--iters", "4", "--resume", *given))
    assert resumed.diary.start == 2
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_automatic_repair_keeps_validation_and_checkpoints_going(arguments):
    """The same run with the hook, and no server at all."""
    args = arguments(*SHORT[:-1], "offline")
    training = train(args)
    assert [point.valid for point in training.diary.validations] == [6, 6, 6]
    assert all(point.saved for point in training.diary.checkpoints)


def test_unusable_data_ends_with_status_2_and_one_line(tmp_path, capsys):
    """No traceback."""
    assert main(["--data_path", str(tmp_path), "--mode", "disabled"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("train.py: expected at least 2 images")
    assert error.count("\n") == 1
