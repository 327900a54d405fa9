"""Weights files of strangers: what they claim is checked before anything is inflated, and nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from sil_cli.errors import ModelError, UsageError
from sil_cli.runs.checkpoint import read_checkpoint
from sil_cli.runs.weight_file import read_state


@pytest.fixture
def state():
    return {"conv.weight": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(3)}


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_scalars_beside_the_network_are_read(tmp_path, state, zipped):
    kept = {"state_dict": state, "best_mAP": np.float64(0.61), "rank1": np.float32(0.5), "epoch": np.int64(7)}
    torch.save(kept, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_state(tmp_path / "w.pth")["conv.weight"], state["conv.weight"])


def test_what_trainings_keep_beside_the_network_is_read(tmp_path):
    network = torch.nn.Linear(3, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 4])
    kept = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}
    torch.save(kept, tmp_path / "w.pth")
    assert set(read_state(tmp_path / "w.pth")) == {"weight", "bias"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint16, torch.float8_e4m3fn, torch.bool])
def test_every_type_of_numbers_is_read(tmp_path, dtype):
    torch.save({"w": torch.ones(2, 3).to(dtype).t()}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth")["w"].shape == (3, 2)


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"state_dict": {}, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        ({"w": Trap()}, "builtins.print"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        ({"w": np.zeros(3)}, r"numpy\._?core\.multiarray\._reconstruct"),
        ({"w": collections.deque()}, "collections.deque"),
        ({"w": bytearray(3)}, "builtins.bytearray"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_of_any_class_is_named_and_not_made(tmp_path, capsys, content, named, zipped):
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=rf"holds an object of {named}, which is not made here") as caught:
        read_state(tmp_path / "w.pth")
    assert "state_dict()" in caught.value.fix
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(4).to_sparse(),
        torch.empty(10**12, device="meta"),
    ],
)
def test_a_tensor_without_plain_numbers_is_refused(tmp_path, tensor):
    torch.save({"w": tensor}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="sparse, quantised, or has no numbers"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        (torch.zeros(1).expand(10**6, 10**6), r"\(1000000, 1000000\) lies on 1 numbers"),
        (torch.zeros(100).as_strided((90, 10), (1, 1)), r"\(90, 10\) lies on 100 numbers"),
    ],
)
def test_a_tensor_that_repeats_its_numbers_is_refused(tmp_path, tensor, shape):
    torch.save({"w": tensor}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"claims more than it holds: a tensor of shape {shape}"):
        read_state(tmp_path / "w.pth")


def rewritten(source, target, change=lambda name, content: content, compression=zipfile.ZIP_STORED):
    """The archive again, its records changed."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", compression) as written:
        for entry in read.infolist():
            written.writestr(entry.filename, change(entry.filename, read.read(entry)))


def test_a_file_that_would_grow_is_not_inflated(tmp_path):
    torch.save({"w": torch.zeros(20_000_000)}, tmp_path / "large.pth")
    rewritten(tmp_path / "large.pth", tmp_path / "w.pth", compression=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "w.pth").stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"claims more than it holds: it would become 0\.1 GB"):
        read_state(tmp_path / "w.pth")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def claiming(content: bytes) -> bytes:
    """A pickle whose storage of 16 numbers is said to have 2³⁰."""
    assert content.count(b"K\x10") >= 1
    return content.replace(b"K\x10", b"J" + (2**30).to_bytes(4, "little"))


def test_a_storage_that_is_not_there_is_not_read(tmp_path):
    torch.save({"w": torch.zeros(16)}, tmp_path / "small.pth")
    change = lambda name, content: claiming(content) if name.endswith("data.pkl") else content  # noqa: E731
    rewritten(tmp_path / "small.pth", tmp_path / "w.pth", change)
    with pytest.raises(ModelError, match=r"storage 0 is said to have 4,294,967,296 bytes"):
        read_state(tmp_path / "w.pth")


def test_nor_is_one_of_an_old_file(tmp_path):
    torch.save({"w": torch.zeros(16)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "w.pth").write_bytes(claiming((tmp_path / "w.pth").read_bytes()))
    with pytest.raises(ModelError, match=r"its tensors are said to have 4,294,967,296 bytes"):
        read_state(tmp_path / "w.pth")


def of_tensors(header: dict[str, object], content: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not weights at all",
        of_tensors({"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}, b"1234"),
        of_tensors({"w": ONE, "twice": ONE}, b"1234"),
        of_tensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        struct.pack("<Q", 2**60) + b"{",
        b"PK\x03\x04 and then nothing",
        b"\x80\x02" + b"(" * 100_000,
        b"\x80\x02\x8a\xffL",
        b"\x80\x02r\xff\xff\xff\xff.",
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_files_are_told_in_two_lines(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as weights") as caught:
        read_state(tmp_path / name)
    assert "nothing but tensors" in caught.value.fix


def test_a_file_is_known_by_its_content_and_not_by_its_name(tmp_path, state):
    import safetensors.torch

    safetensors.torch.save_file(state, tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert torch.equal(read_state(tmp_path / name)["conv.weight"], state["conv.weight"])


def test_names_must_be_text_and_there_must_be_some(tmp_path):
    torch.save({3: torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="names are not text"):
        read_state(tmp_path / "w.pth")
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds no tensors"):
        read_state(tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no weights file"):
        read_state(tmp_path / "none.pth")


def test_a_checkpoint_that_would_grow_is_not_inflated(tmp_path):
    torch.save({"format": 3, "iteration": 1, "embedder": {"w": torch.zeros(20_000_000)}}, tmp_path / "large.pt")
    path = tmp_path / "checkpoint-0000001.pt"
    rewritten(tmp_path / "large.pt", path, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(ModelError, match="is damaged"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
