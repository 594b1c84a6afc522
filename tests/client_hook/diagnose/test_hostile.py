"""Files that mean harm, or are broken: refused in one line, nothing executed, nothing written."""

import io
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import broken_net, write_safetensors
from loops import small_net
from trainvitals.diagnose import parent
from trainvitals.diagnose.globals import is_dangerous
from trainvitals.diagnose.parent import CrashedError, diagnose
from trainvitals.diagnose.report import RefusedError


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def repacked(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The zip file at `path` with other records."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def saved(tmp_path: Path) -> Path:
    torch.save(broken_net().state_dict(), tmp_path / "x.pth")
    return tmp_path / "x.pth"


def with_pickle(tmp_path: Path, data: bytes) -> Path:
    """A checkpoint whose pickle is `data`."""
    return repacked(saved(tmp_path), lambda contents: contents.update({"x/data.pkl": data}))


@pytest.mark.parametrize("fix", [False, True])
def test_a_pickle_that_would_run_a_command_is_refused_by_name(tmp_path: Path, fix: bool) -> None:
    """The canary stays untouched, and no fixed copy is written."""
    torch.save({"model": broken_net().state_dict(), "x": Harmful(tmp_path / "canary")}, tmp_path / "x.pth")
    with pytest.raises(RefusedError, match=r"its pickle names (posix|nt)\.system, which can run code"):
        diagnose(tmp_path / "x.pth", fix=fix)
    assert [one.name for one in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"c__builtin__\nexec\n(S'1'\ntR.", "__builtin__.exec"),
        (b"\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93.", "torch.serialization.os.system"),
        (b"\x80\x04\x8c\x05mymod\x8c\x0chelpers.os.x\x93.", "mymod.helpers.os.x"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"coperator\nattrgetter\n.", "operator.attrgetter"),
        (b"csubprocess\nPopen\n.", "subprocess.Popen"),
        (b"cmymod\n__globals__\n.", "mymod.__globals__"),
        (b"ctorch.hub\nload\n.", "torch.hub.load"),
        (b"ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
        (b"ctorch.utils.collect_env\nrun\n.", "torch.utils.collect_env.run"),
        (b"cdataclasses\n_create_fn\n.", "dataclasses._create_fn"),
        (b"c_xxsubinterpreters\nrun_string\n.", "_xxsubinterpreters.run_string"),
        (b"ctorch.nn.modules.os\n__dict__\n.", "torch.nn.modules.os.__dict__"),
        (b"cnumpy\nmemmap\n.", "numpy.memmap"),
        (b"clogging\nFileHandler\n.", "logging.FileHandler"),
        (b"cyaml\nunsafe_load\n.", "yaml.unsafe_load"),
        (b"\x80\x04\x8c\x07pathlib\x8c\x0bPath.unlink\x93.", "pathlib.Path.unlink"),
    ],
)
def test_ways_to_run_code_are_known_by_name(tmp_path: Path, data: bytes, named: str) -> None:
    """Whatever the opcode, and however they are reached."""
    with pytest.raises(RefusedError, match=f"names {named}"):
        diagnose(with_pickle(tmp_path, data))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("argparse", "Namespace"),
        ("types", "SimpleNamespace"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("copyreg", "_reconstructor"),
        ("user.models.profile", "Profile"),
        ("numpy", "float64"),
        ("numpy._core.multiarray", "scalar"),
        ("torch", "bfloat16"),
        ("torch", "FloatStorage"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.optim.lr_scheduler", "CosineAnnealingLR"),
        ("collections", "deque"),
        ("datetime", "datetime"),
        ("functools", "partial"),
    ],
)
def test_types_of_real_checkpoints_are_not_dangerous(module: str, name: str) -> None:
    """They are placeholders."""
    assert not is_dangerous(module, name)


def test_attributes_of_anything_but_placeholders_are_not_looked_up(tmp_path: Path) -> None:
    """`getattr` names what is defined within a class of the user's, and nothing else."""
    nested = b"c__builtin__\ngetattr\n(cmymod\nOuter\nS'Inner'\ntR."
    assert diagnose(with_pickle(tmp_path, nested)).exit_code == 0
    for owner, name in (("mymod\nOuter", "__globals__"), ("mymod\nOuter", "os"), ("torch\nSize", "x")):
        data = f"c__builtin__\ngetattr\n(c{owner}\nS'{name}'\ntR.".encode()
        with pytest.raises(RefusedError, match="getattr"):
            diagnose(with_pickle(tmp_path, data))


def test_a_pickle_cannot_change_what_was_checked(tmp_path: Path) -> None:
    """A tensor's place in the file, after its bounds were looked at."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI8\ntQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n(I4\nt(I1\ntI00\n(dtR"
    data = b"(dS'bn.running_var'\n" + tensor + b"(dS'offset'\nI-20\nsbs."
    with pytest.raises(RefusedError, match="leaves tensors as they are"):
        diagnose(with_pickle(tmp_path, data), fix=True)
    function = b"ctorch._utils\n_rebuild_tensor_v2\n(dS'x'\nI1\nsb."
    with pytest.raises(RefusedError, match="expected a pickle"):
        diagnose(with_pickle(tmp_path, function))


def test_a_folder_with_odd_things_under_an_indexs_name_is_no_trap(tmp_path: Path) -> None:
    """A named pipe would never end."""
    folder = tmp_path / "model"
    folder.mkdir()
    os.mkfifo(folder / "x.index.json")
    (folder / "y.index.json").mkdir()
    with pytest.raises(RefusedError, match="found none"):
        diagnose(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"garbage",
        b"\x82\x01.",  # an extension code
        b"r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"(" * 1000,
        b"]" * 10 + b"a" * 20 + b".",
        pickle.dumps({"a": 1})[:-3],
        b"X\xff\xff\xff\x7fabc.",  # a string longer than the file
    ],
)
def test_a_broken_pickle_is_refused(tmp_path: Path, data: bytes) -> None:
    """In one line."""
    with pytest.raises((RefusedError, CrashedError)) as caught:
        diagnose(with_pickle(tmp_path, data))
    assert "\n" not in str(caught.value)


def test_a_pickle_nested_a_million_deep_is_refused(tmp_path: Path) -> None:
    """Nobody recurses into it; what lies deeper than any checkpoint is not passed over in silence."""
    depth = 1_000_000
    path = with_pickle(tmp_path, b"]" * depth + b"a" * (depth - 1) + b".")
    with pytest.raises(RefusedError, match="nested 256 deep"):
        diagnose(path)


ZIPS: dict[str, Callable[[Path], Any]] = {
    "compressed": lambda path: repacked(path, lambda contents: None, zipfile.ZIP_DEFLATED),
    "no pickle": lambda path: repacked(path, lambda contents: contents.pop("x/data.pkl")),
    "no record": lambda path: repacked(path, lambda contents: contents.pop("x/data/0")),
    "short record": lambda path: repacked(path, lambda contents: contents.update({"x/data/0": b"1234"})),
    "a way out": lambda path: repacked(path, lambda contents: contents.update({"x/../../y": b""})),
    "two folders": lambda path: repacked(path, lambda contents: contents.update({"y/data.pkl": b""})),
    "a program": lambda path: repacked(path, lambda contents: contents.update({"x/code/a.py": b""})),
    "byte order": lambda path: repacked(path, lambda contents: contents.update({"x/byteorder": b"middle"})),
}


@pytest.mark.parametrize("spoil", ZIPS.values(), ids=ZIPS)
def test_a_zip_file_that_is_not_torchs_is_refused(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    """Before anything in it is read as numbers."""
    path = saved(tmp_path)
    spoil(path)
    with pytest.raises(RefusedError, match="expected"):
        diagnose(path, fix=True)
    assert [one.name for one in tmp_path.iterdir()] == ["x.pth"]


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    """As bombs are built: one piece of data under many names."""
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        place, infos = archive.start_dir, archive.infolist()
    names = [len(struct.unpack_from("<H", data, place + 28)) for _ in infos]
    assert names
    offsets = []
    for _ in infos:
        name, extra, comment = struct.unpack_from("<3H", data, place + 28)
        offsets.append(place + 42)
        place += 46 + name + extra + comment
    struct.pack_into("<I", data, offsets[4], infos[3].header_offset)
    path.write_bytes(bytes(data))
    with pytest.raises(RefusedError, match="expected"):
        diagnose(path)


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    """Their indices could point anywhere."""
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(RefusedError, match="sparse"):
        diagnose(tmp_path / "x.pth")


@pytest.mark.parametrize("numbers", [(99, (8,), (1,)), (0, (8,), (9,)), (0, (-1,), (1,)), (0, (8, 8), (1,))])
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path, numbers: tuple[Any, ...]) -> None:
    """Its offset, shape and stride are the file's word only."""

    class Beyond:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.storage = torch.storage.TypedStorage(
                wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True
            )

        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (self.storage, *numbers, False, {})

    torch.save({"a.weight": Beyond(torch.zeros(8))}, tmp_path / "x.pth")
    with pytest.raises(RefusedError, match="expected"):
        diagnose(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{" * 100_000,
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, header: bytes) -> None:
    """Types, sizes, holes and overlaps."""
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, header)
    with pytest.raises(RefusedError, match="expected"):
        diagnose(tmp_path / "x.safetensors")


def test_a_giant_safetensors_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Its length is the file's first word."""
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(RefusedError, match="expected a safetensors header"):
        diagnose(tmp_path / "x.safetensors")


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path: Path) -> None:
    """Missing, empty, text, a folder without one, a named pipe, the old format, a distributed one."""
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp/.metadata").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.pth")
    torch.save(small_net().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name, said in {
        "gone.pth": "no such file",
        "empty.pth": "neither",
        "text.pth": "neither",
        "folder": "found none",
        "pipe.pth": "something else",
        "old.pth": "before torch 1.6",
        "dcp": "distributed",
    }.items():
        with pytest.raises(RefusedError, match=said):
            diagnose(tmp_path / name)


def test_no_truncation_and_no_flipped_byte_gets_past_without_an_answer(tmp_path: Path) -> None:
    """Every file gets a report or a refusal. In one process, so that many fit into a second."""
    from trainvitals.diagnose.child import examine

    whole = saved(tmp_path).read_bytes()
    chance = random.Random(0)
    spoiled = [whole[: chance.randrange(len(whole))] for _ in range(100)]
    for _ in range(300):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        spoiled.append(bytes(data))
    answers, reasons = set(), []
    for data in spoiled:
        (tmp_path / "y.pth").write_bytes(data)
        try:
            answers.add(examine(tmp_path / "y.pth", None).exit_code)
        except RefusedError as refused:
            reasons.append(str(refused))
    assert 1 in answers
    assert reasons
    assert not [reason for reason in reasons if "\n" in reason]


def test_a_reader_that_dies_is_told_from_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the signal it died of."""
    path = saved(tmp_path)
    started = subprocess.Popen

    def doomed(command: list[str], **options: Any) -> Any:
        process = started([sys.executable, "-c", "import time; time.sleep(60)"], **options)
        process.send_signal(signal.SIGKILL)
        return process

    monkeypatch.setattr(parent.subprocess, "Popen", doomed)
    with pytest.raises(CrashedError, match="ended with signal 9"):
        diagnose(path)


def test_the_reader_limits_itself(tmp_path: Path) -> None:
    """Memory, processor time, and no file at all where nothing is to be written."""
    code = (
        "import resource; from trainvitals.diagnose.child import limit; limit(10, False);"
        "print([resource.getrlimit(one)[0] for one in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)])\n"
        "try: bytearray(3 << 30)\n"
        "except MemoryError: print('no memory')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\n")[:2] == ["[60, 0]", "no memory"]
