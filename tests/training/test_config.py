import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from trajcast_ase.data import ethanol
from trajcast_ase.models.model_file import load_model
from trajcast_ase.models.model_header import ModelFileError, read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.network.triton.backend import Triton
from trajcast_ase.state import state_from_atoms
from trajcast_ase.training.config import OptimizerConfig, TrainingConfig
from trajcast_ase.training.data import Statistics
from trajcast_ase.training.identity import identity_of
from trajcast_ase.training.optimizer import Plateau, learning_rate
from trajcast_ase.training.schedule import Schedule
from trajcast_ase.training.start import _initial_model, first_model

MINIMAL = """
[data]
train = ["a.xyz"]
horizon_fs = 7.0
[network]
cutoff = 4.0
[optimizer]
steps = 1000
"""


def read(tmp_path, text):
    (tmp_path / "a.xyz").touch()
    path = tmp_path / "config.toml"
    path.write_text(text)
    return TrainingConfig.from_toml(path)


def test_paths_are_relative_to_the_file(tmp_path):
    config = read(tmp_path, MINIMAL)
    assert config.data.train == (str(tmp_path / "a.xyz"),)
    assert config.run.directory == tmp_path / "training"


def test_brackets_are_a_pattern_only_where_they_name_no_file(tmp_path):
    folder = tmp_path / "[Cu(NH3)4]SO4"
    folder.mkdir()
    for name in ("nve[1].xyz", "b1.xyz", "b2.xyz"):
        (folder / name).touch()
    text = MINIMAL.replace('"a.xyz"', '"b[12].xyz", "nve[1].xyz"')
    names = ("b1.xyz", "b2.xyz", "nve[1].xyz")
    files = tuple(str(folder / name) for name in names)
    assert read(folder, text).data.train == files
    absolute = MINIMAL.replace('"a.xyz"', f'"{files[0]}", "{files[2]}"')
    assert read(tmp_path, absolute).data.train == (files[0], files[2])
    escaped = MINIMAL.replace('"a.xyz"', '"nve[[]1].xyz"')  # as trajcast new writes it
    assert read(folder, escaped).data.train == files[2:]


def test_a_backend_is_chosen_where_the_training_is(tmp_path, monkeypatch):
    monkeypatch.setattr(Triton, "computes_on", lambda _, device: device.type == "meta")
    monkeypatch.setattr(Triton, "check", lambda _: None)
    config = read(tmp_path, MINIMAL + '[run]\nbackend = "triton"\n')
    speeds = (0.02, 0.01)
    statistics = Statistics((1, 8), (1.0, 16.0), 0.1, 0.01, speeds, speeds, 9.0, 10)
    assert first_model(config, statistics, "meta").backend.name == "triton"
    with pytest.raises(ValueError, match="on cpu, where the backend 'triton' does not"):
        first_model(config, statistics, "cpu")


def test_a_training_starts_from_a_bundled_model_or_a_file(tmp_path):
    text = MINIMAL + '[run]\ninit = "water-5fs"\n'
    named = read(tmp_path, text)
    assert named.run.init == "water-5fs"
    bundled = load_model("water-5fs")
    settings = bundled.config
    model = _initial_model(named.run.init, settings, 0)
    assert model.content_hash == bundled.content_hash
    wider = replace(settings, largest_speeds=(0.05, 0.05))
    widened = _initial_model(named.run.init, wider, 0)
    assert widened.config.largest_speeds == (settings.largest_speeds[0], 0.05)
    assert torch.equal(widened.readout.weight, model.readout.weight)
    identity = identity_of(named, settings, "data")
    assert identity["init"] == bundled.header.sha256
    shutil.copy(find_model("quartz-30fs"), tmp_path / "water-5fs")  # a file goes first
    assert read(tmp_path, text).run.init == tmp_path / "water-5fs"
    with pytest.raises(ModelFileError, match=r"no model file .*water-6fs"):
        read(tmp_path, text.replace("water-5fs", "water-6fs"))


@torch.no_grad()
def targets(model, state):
    near = model.neighborhood(state)
    return model(state.atomic_numbers, state.velocities, near)


def test_surroundings_are_added_to_a_network_without_and_change_nothing_at_first():
    bundled = load_model("ethanol-gfn2")
    wider = replace(bundled.config, surroundings_cutoff=9.0, n_surroundings_rbf=8)
    model = _initial_model("ethanol-gfn2", wider, 0).double()
    assert model.config.surroundings_cutoff == 9.0
    state = state_from_atoms(ethanol())
    before, after = targets(bundled.double(), state), targets(model, state)
    torch.testing.assert_close(after, before, rtol=0.0, atol=2e-6)
    with torch.no_grad():
        model.surroundings.receivers.weight.normal_()
    assert (targets(model, state) - before).abs().max() > 1e-3
    settings = load_model("water-5fs").config
    with pytest.raises(ValueError, match=r"surroundings_cutoff = 9\.0, the config"):
        _initial_model("water-5fs", replace(settings, surroundings_cutoff=10.0), 0)


def test_network_and_horizon_are_those_of_the_start_unless_set(tmp_path, monkeypatch):
    text = '[data]\ntrain = ["a.xyz"]\n[optimizer]\nsteps = 10\n[run]\n'
    text += 'init = "water-5fs"\n'
    config, water = read(tmp_path, text), load_model("water-5fs").config
    assert config.data.horizon_fs == water.horizon_fs == 5.0
    for key, value in config.network.model_dump().items():
        assert value == getattr(water, key)
    header = read_header(find_model("water-5fs"))
    older = {k: v for k, v in header.config.items() if k != "n_surroundings_rbf"}
    monkeypatch.setattr(
        "trajcast_ase.training.config.read_header",
        lambda _: replace(header, config=older),
    )
    assert read(tmp_path, text) == config  # which has the default
    wider = read(tmp_path, text + "[network]\nn_channels = 8\n")
    assert wider.network == config.network.model_copy(update={"n_channels": 8})
    with pytest.raises(ValueError, match=r"data.horizon_fs: Field required"):
        read(tmp_path, text.replace('init = "water-5fs"', "seed = 1"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1000", "steps = -1", "optimizer.steps"),
        ("steps = 1000", "stepz = 1000", "optimizer.stepz"),
        ("cutoff = 4.0", "", "network.cutoff"),
        ('["a.xyz"]', '["b*.xyz"]', "matches no file"),
        ("steps = 1000", "steps = 9\nwarmup_steps = 9", "optimizer: warmup_steps = 9"),
        ("steps = 1000", "", "optimizer: neither of steps and minutes is set; give"),
        ("steps = 1000", "steps = 10\nminutes = 3", "optimizer: both of steps and m"),
        ("steps = 1000", "minutes = 0", "optimizer.minutes: .*greater than 0"),
        ("[data]", "[data", "is not TOML"),
        ("steps = 1000", "steps = '1000'", "optimizer.steps: .*valid integer"),
        ("steps = 1000", "steps = true", "optimizer.steps: .*valid integer"),
        ("steps = 1000", "steps = 1e3", "optimizer.steps: .*valid integer"),
        ("steps = 1000", f"steps = 1{'0' * 400}", "optimizer.steps"),
        ("steps = 1000", f"steps = {'1' * 5000}", "is not TOML"),
        ("steps = 1000", "steps = " + "[" * 100_000, "is not TOML"),
        ("steps = 1000", "#" * 2**20, "a configuration at most 1,048,576"),
        ("horizon_fs = 7.0", "horizon_fs = inf", "data.horizon_fs: .*finite"),
        ("horizon_fs = 7.0", "horizon_fs = nan", "data.horizon_fs: .*finite"),
        ("cutoff = 4.0", "cutoff = 1e300", "network: .*cutoff = 1e.300 must lie"),
        ("cutoff = 4.0", "cutoff = 4.0\nn_channels = 100000", "network: .*n_channels"),
        ("cutoff = 4.0", "cutoff = 4.0\nn_layers = 10000000", "network: .*n_layers"),
        ("cutoff = 4.0", "cutoff = 4.0\nedge_mlp = [-1]", "network: .*edge_mlp"),
        ("cutoff = 4.0", "cutoff = 4.0\nsurroundings_cutoff = 3.0", "larger than cut"),
        (
            "cutoff = 4.0",
            'cutoff = 4.0\nconserve_angular_momentum = "no"',
            "network.conserve_angular_momentum: .*valid boolean",
        ),
        ("steps = 1000", "steps = 1000\nbetas = [0.9, 1.0]", "optimizer.betas.1"),
        ("steps = 1000", "steps = 1000\nbatch_size = 1000000000000", "batch_size"),
        ('["a.xyz"]', '["a**.xyz"]', "data.train: 'a..\\.xyz' is no file or pattern"),
        ('["a.xyz"]', '[""]', "data.train"),
        ('["a.xyz"]', "['" + "a" * 5000 + "']", "data.train: .* is no file or pat"),
        ('["a.xyz"]', '["a\\u0000"]', "data.train.0: .*control characters"),
        ("[data]", "[run]\nname = '../x'\n[data]", "run.name: .*no folder"),
        ("[data]", "[run]\nname = ''\n[data]", "run.name: .*no folder"),
        ("[data]", '[run]\ndirectory = "a\\u0000"\n[data]', "run.directory: .*NUL"),
        ("[data]", "[run]\ndirectory = 3\n[data]", "run.directory"),
        ("[data]", "[run]\ndevice = 'abacus'\n[data]", "run.device"),
        ("[data]", "[run]\nthreads = 0\n[data]", "run.threads"),
        ("[data]", f"[run]\nseed = {2**63}\n[data]", "run.seed"),
        ("[data]", "[run]\nthermostat = [{kind = [1]}]\n[data]", "run.thermostat"),
        ("[data]", "[[data]]", "data"),
    ],
)
def test_errors_name_the_key(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, MINIMAL.replace(old, new))


def test_a_short_training_has_a_short_warmup(tmp_path):
    short = read(tmp_path, MINIMAL.replace("1000", "200"))
    assert short.optimizer.n_warmup_steps == 40
    long = read(tmp_path, MINIMAL.replace("1000", "20000"))
    assert long.optimizer.n_warmup_steps == 300
    assert "Value error" not in error_of(read, tmp_path, MINIMAL + "minutes = 3")


def error_of(function, *arguments):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is looked at
        function(*arguments)
    return str(caught.value)


def test_minutes_take_the_place_of_steps(tmp_path):
    read(tmp_path, MINIMAL + "warmup_steps = 999")
    config = TrainingConfig.from_toml(tmp_path / "config.toml", minutes=2.5)
    assert (config.optimizer.minutes, config.optimizer.steps) == (2.5, None)
    with pytest.raises(ValueError, match=r"config\.toml: optimizer\.minutes"):
        TrainingConfig.from_toml(tmp_path / "config.toml", minutes=-1.0)
    with pytest.raises(ValueError, match="not known before a step was timed"):
        _ = config.optimizer.n_steps


RECOMMENDED = """
[run]
thermostat = [
  { kind = "Langevin", time_constant_fs = 2000 },
  { kind = "CSVR", time_constant_fs = 70 },
]
thermostat_chosen_by = "a guess"
"""


def test_a_trained_model_may_recommend_thermostats(tmp_path):
    setting = read(tmp_path, MINIMAL + RECOMMENDED).run.thermostat_setting
    assert str(setting) == "Langevin 2000 fs, CSVR 70 fs"
    assert setting.chosen_by == "a guess"
    assert read(tmp_path, MINIMAL).run.thermostat_setting is None
    for old, new, message in (
        ('"CSVR"', '"csvr"', "run: .*unknown kind of thermostat 'csvr'"),
        ("= 70", "= 0", r"run: .*time_constant_fs = 0(\.0)? .* must be a positive"),
        ("= 70", "= 'x'", "run: .*must be a positive"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path, MINIMAL + RECOMMENDED.replace(old, new))


def test_the_schedule_warms_up_stays_and_falls_to_zero():
    options = OptimizerConfig(
        steps=1000, learning_rate=2e-3, warmup_steps=100, constant_fraction=0.5
    )
    schedule = Schedule.of(options)
    rates = [learning_rate(k, options, Plateau(), schedule) for k in range(1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[100] == rates[499] == pytest.approx(2e-3)
    assert rates[750] == pytest.approx(1e-3)
    assert rates[999] < 1e-7
    assert all(a >= b for a, b in pairwise(rates[500:]))


def test_a_plateau_lowers_the_rate():
    options = OptimizerConfig(
        steps=1000, schedule="plateau", warmup_steps=0, plateau_patience=2
    )
    plateau = Plateau()
    for error in (1.0, 0.9, 0.95, 0.92, 0.91):
        plateau = plateau.after(error, options)
    assert (plateau.reductions, plateau.best) == (1, 0.9)
    assert learning_rate(500, options, plateau, Schedule.of(options)) == pytest.approx(
        0.08
    )
