"""What a tensor is, told from the path of names that leads to it."""

from trainvitals.diagnose.report import Group

Path = tuple[str, ...]
STATISTICS = ("running_mean", "running_var")
MODELS = ("model", "state_dict", "model_state_dict", "net", "network", "module", "weights", "params")
COPIES = ("ema", "swa", "averaged", "average", "shadow", "teacher", "ema_model", "model_ema", "swa_model")
OTHERS = frozenset({
    "args", "best_metric", "callbacks", "config", "epoch", "global_step", "grad_scaler", "history", "hparams",
    "hyper_parameters", "loops", "loss", "losses", "lr_scheduler", "lr_schedulers", "metric", "metrics", "random_state",
    "rng", "rng_state", "rng_states", "scaler", "scheduler", "schedulers", "step",
})  # fmt: skip


def group_of(path: Path, bare: bool) -> Group:
    """The group of the tensor at `path`. `bare` says that the whole file is one state dict."""
    lower = [name.lower() for name in path]
    if any(name.startswith("optim") for name in lower[:2]):
        return "optimizer"
    if not bare and (lower[0] in OTHERS or len(path) == 1):
        return "other"  # a number beside the model, such as a metric
    if path[-1].rpartition(".")[2] in STATISTICS:
        return "statistics"
    if any(name in COPIES or name.startswith(("ema_", "swa_")) for name in lower[:-1]):
        return "ema"
    return "weights"


def name_of(path: Path, bare: bool) -> str:
    """The tensor's name in the user's own model: without wrappers, and without the place the model has in the file."""
    names = path[1:] if not bare and len(path) > 1 and path[0].lower() in MODELS else path
    parts = ".".join(names).split(".")
    return ".".join(part for i, part in enumerate(parts) if part != "_orig_mod" and not (part == "module" and i == 0))
