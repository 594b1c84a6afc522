"""The command line of the training program, under the names the user's own script has."""

import argparse
from collections.abc import Sequence
from pathlib import Path

# Where in a run frames are over-exposed unless `--bad_steps` says so: late enough to have learned something before the
# first, often enough that automatic repair is seen to repeat, and (of 400) just after a step sampled for headroom.
BAD_FRACTIONS = (0.2125, 0.4625, 0.7125)
VALIDATIONS = 8  # in a run, unless `--val_every` says so


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments with every default filled in; exits with status 2 and a line on stderr where they are wrong."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.resume and not args.model_file.is_file():
        parser.error(f"expected a checkpoint to resume from at --model_file, found none at {str(args.model_file)!r}")
    if args.bad_steps is None:
        args.bad_steps = [round(args.iters * fraction) for fraction in BAD_FRACTIONS]
    args.val_every = args.val_every or max(1, args.iters // VALIDATIONS)
    args.save_every = args.save_every or args.val_every
    return args


def build_parser() -> argparse.ArgumentParser:
    """Every option with its help; defaults that depend on others are filled in by `parse_arguments`."""
    parser = argparse.ArgumentParser(prog="train.py", description="Train WaveSSM, a small image-restoration network.")
    add = parser.add_argument
    add("--iters", type=positive, default=400, metavar="N", help="train up to iteration N (400)")
    add("--batch_size", type=positive, default=4, metavar="N", help="crops in a batch (4)")
    add("--lr", type=float, default=4e-3, help="learning rate of AdamW (0.004)")
    add("--seed", type=int, default=1, help="of weights, crops and noise (1)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="where to train (cpu)")
    add("--data_path", type=Path, metavar="DIR", help="a folder of images (photographs shipped with scikit-image)")
    add("--model_file", type=Path, default=Path("checkpoints/wavessm_x.pth"), metavar="FILE", help="the checkpoint")
    add("--resume", action="store_true", help="go on from --model_file")
    add("--val_every", type=positive, metavar="N", help="iterations between validations (an eighth of the run)")
    add("--save_every", type=positive, metavar="N", help="iterations between checkpoints (as --val_every)")
    add("--bad_steps", type=steps, metavar="N,N", help="iterations with an over-exposed frame, or 'none' (three)")
    add("--mode", choices=["online", "offline", "disabled"], help="of the hook (TRAINVITALS_MODE, else online)")
    add("--auto_sanitize", choices=["restore", "reset", "off"], default="restore", help="automatic repair (restore)")
    add("--bn_momentum", type=float, default=0.01, help="of every BatchNorm: lower moves less with one batch (0.01)")
    add("--bn_eps", type=float, default=1e-3, help="of every BatchNorm: higher forgives tiny variances (0.001)")
    add("--clip", type=float, default=0.5, help="largest L2 norm of all gradients together (0.5)")
    add("--json_out", type=Path, metavar="FILE", help="write what the trainer itself saw to FILE")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def steps(text: str) -> list[int]:
    """Iterations parted by commas, or none of them."""
    return [] if text == "none" else [positive(part) for part in text.split(",")]
