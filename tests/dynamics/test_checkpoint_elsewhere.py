"""A checkpoint whose place cannot be written is kept in the temporary folder."""

import errno
import tempfile

import numpy as np
import pytest
from test_checkpoint import N, contents, network, record, settings, start

import trajcast_ase.sealed
from trajcast_ase import TrajCast
from trajcast_ase.dynamics.checkpoint import (
    CheckpointElsewhereError,
    previous,
    read_checkpoint,
)


@pytest.fixture
def full(tmp_path, monkeypatch):
    """Return a function that fills the disk of a folder, and one that empties it."""
    room = tmp_path / "tmp"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    write, filled = trajcast_ase.sealed.write_atomically, {}

    def limited(path, data):
        for folder, number in filled.items():
            if folder in path.parents:
                raise OSError(number, "the device fails", str(path))
        write(path, data)

    monkeypatch.setattr(trajcast_ase.sealed, "write_atomically", limited)
    return filled


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("moved", [True, False])
def test_a_run_goes_on_from_elsewhere(tmp_path, full, number, moved):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    path, model = two / "run.checkpoint", network()
    with TrajCast(start(), model, **settings("noise", 1), **record(one)) as whole:
        whole.run(N)
    with TrajCast(start(), model, **settings("noise", 1), **record(two)) as first:
        first.attach(first.checkpoint, 2, path)
        first.run(3)
        full[two] = number
        with pytest.raises(CheckpointElsewhereError) as caught:
            first.run(N)
    full.clear()
    place = caught.value.place
    assert tmp_path / "tmp" in place.parents
    assert f"step 4 is kept as {place}" in str(caught.value)
    assert f"'mv {place} {path}'" in str(caught.value)
    assert read_checkpoint(previous(path))[0].nsteps == 2
    if moved:
        place = place.rename(path)
    with TrajCast.restart(place, model, **settings("noise", 9), **record(two)) as again:
        assert again.nsteps == 4
        again.run(N - 4)
    assert np.array_equal(again.atoms.get_momenta(), whole.atoms.get_momenta())
    for mine, expected in zip(contents(two), contents(one), strict=True):
        assert np.array_equal(mine, expected)


def test_no_place_at_all_is_told(tmp_path, full):
    dynamics = TrajCast(start(), network())
    dynamics.checkpoint(tmp_path / "a.checkpoint")
    full[tmp_path] = errno.ENOSPC
    with pytest.raises(OSError, match=r"nor can the temporary folder.*is not kept"):
        dynamics.checkpoint(tmp_path / "a.checkpoint")
    assert read_checkpoint(previous(tmp_path / "a.checkpoint"))[0].nsteps == 0


@pytest.mark.usefixtures("full")
def test_a_folder_that_is_none_is_no_loss(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CheckpointElsewhereError) as caught:
        TrajCast(start(), network()).checkpoint(tmp_path / "file" / "a.checkpoint")
    assert read_checkpoint(caught.value.place)[0].nsteps == 0
