"""Pickles in place of every file that the package reads: refused, never run."""

import pickle  # noqa: TID251  to craft what must be refused
import zipfile
from pathlib import Path

import pytest
import torch

from trajcast_ase import import_published, load_model
from trajcast_ase.models.model_header import read_header
from trajcast_ase.training.checkpoint import load_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.trajectory import read_frames


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def zipped(trace, path):
    torch.save({"weight": Bomb(trace)}, path)


def zipped_array(trace, path):
    """Write what NumPy takes for an archive of object arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("positions.npy", pickle.dumps(Bomb(trace)))


def bare(trace, path):
    path.write_bytes(pickle.dumps(Bomb(trace)))


def old_torch(trace, path):
    torch.save({"weight": Bomb(trace)}, path, _use_new_zipfile_serialization=False)


PUBLISHED = {"_int_out.mp_layer_0.a": torch.ones(1)}
READERS = {
    "model": (load_model, ".trajcast"),
    "header": (read_header, ".trajcast"),
    "checkpoint": (load_checkpoint, ".safetensors"),
    "configuration": (TrainingConfig.from_toml, ".toml"),
    "weights": (
        lambda path: import_published(
            {"model": {}}, path, elements=["H"], horizon_fs=7.0
        ),
        ".pt",
    ),
    "published": (
        lambda path: import_published(path, PUBLISHED, elements=["H"], horizon_fs=7.0),
        ".yaml",
    ),
}
SUFFIXES = (".traj", ".h5", ".xyz", ".extxyz", ".pckl", ".npz", ".pt", "")
BOMBS = (zipped, zipped_array, bare, old_torch)


@pytest.mark.parametrize("environment", ["0", "1"])
@pytest.mark.parametrize("reader", READERS)
def test_no_file_runs_code(tmp_path, monkeypatch, reader, environment):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    read, suffix = READERS[reader]
    trace = tmp_path / "trace"
    for craft in BOMBS:
        path = tmp_path / f"bomb{suffix}"
        craft(trace, path)
        with pytest.raises(ValueError, match=r"bomb\."):
            read(path)
        assert not trace.exists(), craft.__name__


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_trajectory_runs_code(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / f"bomb{suffix}"
    for craft in BOMBS:
        craft(tmp_path / "trace", path)
        with pytest.raises(Exception):  # noqa: B017, PT011  here only: not run
            read_frames(path)
        assert not (tmp_path / "trace").exists(), craft.__name__


@pytest.mark.parametrize("craft", [zipped, bare, old_torch])
def test_the_bombs_work(tmp_path, craft):
    # Else the test above could not fail.
    craft(tmp_path / "trace", tmp_path / "bomb")
    if craft is bare:
        pickle.loads((tmp_path / "bomb").read_bytes())  # noqa: S301  our own
    else:
        torch.load(tmp_path / "bomb", weights_only=False)  # noqa: TID251  our own
    assert (tmp_path / "trace").exists()
