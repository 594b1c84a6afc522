"""What a tensor is, told from the path of names that leads to it."""

from trainvitals.diagnose.report import Group

Path = tuple[str, ...]
STATISTICS = ("running_mean", "running_var")
MODELS = ("model", "state_dict", "model_state_dict", "net", "network", "module", "weights", "params")
COPIES = ("ema", "swa", "averaged", "average", "shadow", "teacher", "ema_model", "model_ema", "swa_model")
OTHERS = frozenset({
    "args", "best_metric", "callbacks", "config", "datamodule", "early_stopping", "epoch", "global_step",
    "grad_scaler", "history", "hparams",
    "hyper_parameters", "loops", "loss", "losses", "lr_scheduler", "lr_schedulers", "metric", "metrics", "random_state",
    "rng", "rng_state", "rng_states", "scaler", "scheduler", "schedulers", "step",
})  # fmt: skip


def group_of(path: Path, bare: bool, is_scalar: bool = False) -> Group:
    """The group of the tensor at `path`. `bare` says that the whole file is one state dict, `is_scalar` that the
    tensor has no dimensions."""
    lower = [name.lower() for name in path]
    leaf = lower[-1].rpartition(".")[2]
    if any(name.startswith("optim") for name in lower[:2]):
        return "optimizer"
    if leaf in STATISTICS:
        return "statistics"
    if not bare and (len(path) == 1 or (lower[0] in OTHERS and "." not in path[-1])):
        return "other"  # beside the model, such as a metric
    if is_scalar and (
        any(name.startswith("best") for name in lower) or leaf.endswith(("score", "loss", "metric", "monitor"))
    ):
        return "other"
    if any(name in COPIES or name.startswith(("ema_", "swa_")) for name in lower[:-1]):
        return "ema"
    return "weights"


def name_of(path: Path, bare: bool) -> str:
    """The tensor's name in the user's own model: without wrappers, without the place the model has in the file, and
    without what a pickled module calls its dictionaries."""
    names = path[1:] if not bare and len(path) > 1 and path[0].lower() in MODELS else path
    parts = ".".join(names).split(".")
    dropped = {"_orig_mod", "_modules", "_buffers", "_parameters"}
    return ".".join(part for i, part in enumerate(parts) if part not in dropped and not (part == "module" and i == 0))
