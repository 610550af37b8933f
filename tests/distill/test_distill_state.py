from __future__ import annotations

import json

import pytest

from trajcast_ase.distill.state import StateError, StateFile

IDENTITY = {"temperature_K": 300.0, "seed": 0}


def finished(folder):
    state = StateFile(folder, IDENTITY)
    (folder / "reference").mkdir(exist_ok=True)
    file = folder / "reference" / "nve-1.h5"
    file.write_bytes(b"frames")
    state.begin("reference")
    state.finish("reference", {"stride_fs": 2.0}, "some MD", [file])
    state.keep_plan("choice", {"done": []})
    return file


def test_stages_and_plans_come_back(tmp_path):
    finished(tmp_path)

    state = StateFile(tmp_path, IDENTITY)

    assert state.stages["reference"]["result"] == {"stride_fs": 2.0}
    assert state.stages["reference"]["line"] == "some MD"
    assert state.plans == {"choice": {"done": []}}
    assert state.seconds["reference"] > 0


def test_other_settings_are_refused(tmp_path):
    finished(tmp_path)

    with pytest.raises(StateError, match=r"begun with temperature_K = 300.0, now 310"):
        StateFile(tmp_path, IDENTITY | {"temperature_K": 310.0})


def test_a_changed_file_of_a_finished_stage_is_noticed(tmp_path):
    file = finished(tmp_path)

    file.write_bytes(b"other frames")
    with pytest.raises(StateError, match=r"nve-1.h5 was changed.*--redo reference"):
        StateFile(tmp_path, IDENTITY)
    file.unlink()
    with pytest.raises(StateError, match=r"nve-1.h5 is missing"):
        StateFile(tmp_path, IDENTITY)


def test_redo_forgets_a_stage_and_those_after_it(tmp_path):
    file = finished(tmp_path)
    file.write_bytes(b"other frames")

    with pytest.raises(StateError, match="was changed"):
        StateFile(tmp_path, IDENTITY, "choice")
    with pytest.raises(StateError, match="no such stage"):
        StateFile(tmp_path, IDENTITY, "cooking")
    assert file.exists()
    state = StateFile(tmp_path, IDENTITY, "reference")

    assert state.stages == state.plans == state.seconds == {}
    assert not file.exists()
    assert StateFile(tmp_path, IDENTITY).stages == {}


def test_redo_with_other_settings_deletes_nothing(tmp_path):
    file = finished(tmp_path)
    before = (tmp_path / "distill.json").read_bytes()

    with pytest.raises(StateError, match="begun with temperature_K"):
        StateFile(tmp_path, IDENTITY | {"temperature_K": 310.0}, "reference")

    assert file.exists()
    assert (tmp_path / "distill.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / ".distill.json.lock").touch()  # as of a call that was killed
    StateFile(tmp_path, IDENTITY)
    (tmp_path / "screening").mkdir()
    (tmp_path / "README.md").write_text("mine")

    with pytest.raises(FileExistsError, match=r"holds README.md and no distill.json"):
        StateFile(tmp_path, IDENTITY)


def test_settings_may_change_until_something_is_kept(tmp_path):
    StateFile(tmp_path, IDENTITY).save()
    frames = tmp_path / "reference" / "trial-1.part"
    frames.parent.mkdir()
    frames.touch()

    StateFile(tmp_path, IDENTITY)
    assert frames.exists()
    StateFile(tmp_path, IDENTITY | {"temperature_K": 310.0})
    assert not frames.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("plans"),
        lambda found: found.update(format="other"),
        lambda found: found.update(more=1),
        lambda found: found["stages"].update(cooking={}),
        lambda found: found["stages"]["reference"].pop("line"),
        lambda found: found["seconds"].update(reference="3"),
        lambda found: found["seconds"].update(reference=-3),
        lambda found: found["plans"].update(choice=[]),
    ],
)
def test_damaged_state_files_are_refused(tmp_path, change):
    finished(tmp_path)
    path = tmp_path / "distill.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))

    with pytest.raises(StateError, match=r"distill.json is no state of distill"):
        StateFile(tmp_path, IDENTITY)


def test_half_a_state_file_is_refused(tmp_path):
    finished(tmp_path)
    path = tmp_path / "distill.json"
    path.write_text(path.read_text()[:100])

    with pytest.raises(StateError, match="restore it"):
        StateFile(tmp_path, IDENTITY)
