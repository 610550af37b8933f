"""What damaged model files, checkpoints and training configurations come to.

    python benchmarks/hostile/models.py --count 1000 --seed 1

Each is refused with the documented error, or works: a model strides, a training takes
steps, a configuration is one. Anything else is a fault, as is more time of the
processor or more memory than is promised, and the script fails.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from model_mutations import (
    MODEL_MUTATIONS,
    checkpoint_mutation,
    pick,
    toml_mutation,
)

from trajcast_ase import TrajCast, load_model, save_model
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.models.model_header import ModelFileError
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.trainer import Trainer
from trajcast_ase.units import FS

LIMIT_S, LIMIT_MIB = 2.0, 500.0
"""Time of the processor that one file may take, and memory that all may hold."""
TOML = """\
[data]
train = ["run.traj"]
horizon_fs = 2.0
stride_fs = 1.0
validation_fraction = 0.2
validation_pairs = 5
description = "two atoms"
[network]
cutoff = 3.0
n_channels = 4
lmax = 1
n_layers = 1
n_edge_rbf = 3
edge_mlp = [4]
velocity_mlp = [4]
velocity_encoding = "thermal"
conserve_angular_momentum = true
[optimizer]
steps = 9
batch_size = 2
warmup_steps = 1
learning_rate = 0.01
betas = [0.9, 0.98]
[run]
name = "pair"
directory = "out"
seed = 1
device = "cpu"
dtype = "float64"
threads = 1
thermostat = [{ kind = "CSVR", time_constant_fs = 70 }]
"""


@dataclass
class Tally:
    """What became of the files of one kind.

    Attributes
    ----------
    refused, worked : int
    faults : list of (mutation, error)
    longest_s : float
        CPU time of one file.
    """

    refused: int = 0
    worked: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    longest_s: float = 0.0
    by_mutation: Counter[str] = field(default_factory=Counter)

    def count(
        self,
        mutation: str,
        use: Callable[[], bool],
        documented: tuple[type[Exception], ...],
        path: Path,
    ) -> None:
        """Use one file, and note what came of it."""
        started = time.process_time()  # load of others does not count
        try:
            if use():
                self.worked += 1
                self.by_mutation[f"{mutation} worked"] += 1
            else:
                self.faults.append((mutation, "a result that is not finite"))
        except documented as error:
            self.refused += 1
            # A senseless result is found after loading, without the file.
            found_later = isinstance(error, SenselessForecastError | FloatingPointError)
            named = path.stem in str(error) or found_later
            if not named or len(str(error)) > 1000:
                self.faults.append((mutation, f"unhelpful: {error!r:.200}"))
        except BaseException as error:  # noqa: BLE001  what must not happen
            self.faults.append((mutation, f"{error!r:.200}"))
        self.longest_s = max(self.longest_s, time.process_time() - started)


def strides(path: Path) -> bool:
    """Return whether a model file makes one stride of a molecule, in finite numbers."""
    atoms = molecule("CH3CH2OH")
    atoms.set_momenta(np.random.default_rng(5).normal(0.0, 0.3, (len(atoms), 3)))
    TrajCast(atoms, load_model(path)).run(1)
    return bool(np.isfinite(atoms.positions).all())


def damaged_models(folder: Path, count: int, rng: np.random.Generator) -> Tally:
    """Return what became of damaged model files."""
    config = ForecasterConfig(
        elements=(1, 6, 8),
        horizon_fs=7.0,
        cutoff=3.5,
        displacement_rms=0.03,
        velocity_rms=0.006,
        avg_num_neighbors=3.0,
        n_channels=4,
        lmax=1,
        n_layers=1,
        n_edge_rbf=3,
        edge_mlp=(4,),
        n_velocity_rbf=3,
        velocity_mlp=(4,),
        velocity_scales=(0.0157, 0.00456, 0.00395),
    )
    path, tally = folder / "damaged.trajcast", Tally()
    save_model(Forecaster(config).float(), path)
    data = path.read_bytes()
    for _ in range(count):
        mutate = pick(rng, MODEL_MUTATIONS)
        path.write_bytes(mutate(data, rng))
        documented = (ModelFileError, SenselessForecastError)
        tally.count(mutate.__name__, lambda: strides(path), documented, path)
    return tally


def vibrating_pair() -> list[Atoms]:
    """Return MD of two atoms on a spring, 1 fs apart."""
    times = np.arange(20.0)
    frames = []
    for angle in 0.3 * times:
        half = 0.7 + 0.05 * np.sin(angle)
        speed = 0.05 * 0.3 * np.cos(angle) / FS
        atoms = Atoms("O2", positions=[[half, 0, 0], [-half, 0, 0]])
        atoms.set_velocities([[speed, 0, 0], [-speed, 0, 0]])
        frames.append(atoms)
    return frames


def damaged_checkpoints(folder: Path, count: int, rng: np.random.Generator) -> Tally:
    """Return what became of trainings from damaged checkpoints."""
    ase.io.write(folder / "run.traj", vibrating_pair())
    (folder / "good.toml").write_text(TOML)
    config = TrainingConfig.from_toml(folder / "good.toml")
    data = load_data(config.data, config.network.cutoff)

    def new_trainer() -> Trainer:
        return Trainer(config, data, Ranks())

    def goes_on() -> bool:
        trainer = new_trainer()
        trainer.resume()
        losses = [float(trainer.optimize()) for _ in range(2)]
        return bool(np.isfinite(losses).all())

    trainer, tally = new_trainer(), Tally()
    for _ in range(2):
        trainer.unreported.append(trainer.optimize())
    trainer.save()
    good = trainer.path.with_name("good.safetensors")
    trainer.path.replace(good)
    for _ in range(count):
        kind = checkpoint_mutation(good, trainer.path, rng)
        documented = (ValueError, FloatingPointError)
        tally.count(kind, goes_on, documented, trainer.path)
    return tally


def damaged_configurations(folder: Path, count: int, rng: np.random.Generator) -> Tally:
    """Return what became of damaged training configurations."""
    ase.io.write(folder / "run.traj", vibrating_pair())
    path, tally = folder / "damaged.toml", Tally()
    for _ in range(count):
        kind, data = toml_mutation(TOML, rng)
        path.write_bytes(data)
        tally.count(
            kind,
            lambda: isinstance(TrainingConfig.from_toml(path), TrainingConfig),
            (ValueError,),
            path,
        )
    return tally


KINDS = {
    "model files": damaged_models,
    "checkpoints": damaged_checkpoints,
    "configurations": damaged_configurations,
}


def tallies(count: int, seed: int) -> Iterator[tuple[str, Tally]]:
    """Yield what became of `count` files of each kind."""
    for name, run in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            yield name, run(Path(folder), count, np.random.default_rng(seed))


def peak_mib() -> float:
    """Return the most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print one row for each kind of file, and every fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="Files of each kind.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # One of each, so that the peak below is not that of what is loaded once.
    for _ in tallies(1, options.seed):
        pass
    before, n_faults = peak_mib(), 0
    for name, tally in tallies(options.count, options.seed):
        print(
            f"{name}: {tally.refused} refused, {tally.worked} worked, "
            f"{len(tally.faults)} faults; longest {tally.longest_s:.2f} s of CPU"
        )
        for mutation, error in tally.faults:
            print(f"  {mutation}: {error}")
        n_faults += len(tally.faults) + (tally.longest_s > LIMIT_S)
    here = peak_mib() - before
    print(f"peak memory {peak_mib():.0f} MiB, {here:.0f} MiB of it here")
    raise SystemExit(n_faults > 0 or here > LIMIT_MIB)


if __name__ == "__main__":
    main()
