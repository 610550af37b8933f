from itertools import pairwise

import pytest

from trajcast_ase.training.config import OptimizerConfig, TrainingConfig
from trajcast_ase.training.optimizer import Plateau, learning_rate

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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 1000", "steps = -1", "optimizer.steps"),
        ("steps = 1000", "stepz = 1000", "optimizer.stepz"),
        ("cutoff = 4.0", "", "network.cutoff"),
        ('["a.xyz"]', '["b*.xyz"]', "matches no file"),
        ("steps = 1000", "steps = 100", "warmup_steps = 300"),
        ("[data]", "[data", "is not TOML"),
    ],
)
def test_errors_name_the_key(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, MINIMAL.replace(old, new))


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
    rates = [learning_rate(step, options, Plateau()) for step in range(1000)]
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
    assert learning_rate(500, options, plateau) == pytest.approx(0.08)
