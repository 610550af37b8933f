"""Training configuration: read from TOML, checked, printed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from trajcast_ase.lammps_dump import LammpsUnits
from trajcast_ase.models.model_header import read_header
from trajcast_ase.models.model_zoo import available_models, find_model
from trajcast_ase.network.backends import BackendChoice
from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.strict import shortened, text
from trajcast_ase.thermostats.setting import ThermostatSetting

# Larger than any list of files that somebody writes.
LARGEST_TOML = 2**20
# torch and NumPy count in 64 bits; nobody trains for as long.
MOST_STEPS = 10**9
LARGEST_SEED = 2**63 - 1
MOST_THREADS = 1024
WARMUP_STEPS = 300


def _plain(value: str) -> str:
    return text(value, "it")


def _file_name(value: str) -> str:
    if not value or value != Path(value).name or "\n" in value or "\t" in value:
        raise ValueError("it names a file: no folder, not empty, on one line")
    return value


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("no path holds the character NUL")
    return value


Text = Annotated[str, AfterValidator(_plain)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
FileName = Annotated[str, AfterValidator(_plain), AfterValidator(_file_name)]
# TOML has no paths: a string is one.
FilePath = Annotated[Path, Field(strict=False), AfterValidator(_path)]
DataPlace = Literal["auto", "host", "device"]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


class DataConfig(_Section):
    """Where the pairs come from."""

    train: tuple[Pattern, ...] = Field(min_length=1)
    """Trajectory files or glob patterns, relative to the configuration file."""
    validation: tuple[Pattern, ...] = ()
    """Files of independent runs; without them, the end of each training run."""
    validation_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    horizon_fs: float = Field(gt=0.0)
    stride_fs: float | None = Field(default=None, gt=0.0)
    """Time between frames, for files that do not tell it."""
    lammps_units: LammpsUnits | None = None
    """Unit style of LAMMPS dumps that do not state theirs."""
    check_motion: bool = True
    """Whether displacements must fit the velocities: jumps, gaps, other atoms'."""
    max_pairs: int | None = Field(default=None, gt=0)
    validation_pairs: int = Field(default=1000, gt=0)
    description: Text = ""
    """How the reference trajectories were made; goes into the model file."""


class NetworkConfig(_Section):
    """Hyperparameters of the network; constants are computed from the data."""

    cutoff: float = Field(gt=0.0)
    n_channels: int = Field(default=64, ge=4)
    lmax: int = Field(default=2, ge=1)
    n_layers: int = Field(default=4, ge=1)
    parity: Literal["both", "natural"] = "both"
    n_edge_rbf: int = Field(default=8, ge=1)
    edge_poly_cutoff: int = Field(default=6, ge=2)
    surroundings_cutoff: float | None = Field(default=None, gt=0.0)
    n_surroundings_rbf: int = Field(default=16, ge=1)
    edge_mlp: tuple[int, ...] = (64, 64, 64)
    n_velocity_rbf: int = Field(default=8, ge=1)
    velocity_mlp: tuple[int, ...] = (64, 64, 64)
    velocity_encoding: Literal["thermal", "direction"] = "thermal"
    velocity_saturation: float | None = Field(default=3.0, gt=0.0)
    conserve_angular_momentum: bool = True

    @model_validator(mode="after")
    def _network_exists(self) -> Self:
        # One of any element and scale: raises for one that cannot be made.
        thermal = self.velocity_encoding == "thermal"
        ForecasterConfig(
            elements=(1,),
            horizon_fs=1.0,
            displacement_rms=1.0,
            velocity_rms=1.0,
            avg_num_neighbors=1.0,
            velocity_max=1.0,
            velocity_scales=(1.0,) if thermal else (),
            **self.model_dump(),
        )
        return self


class OptimizerConfig(_Section):
    """Optimiser, schedule and regularisation."""

    steps: int | None = Field(default=None, gt=0, le=MOST_STEPS)
    minutes: float | None = Field(default=None, gt=0.0)
    """Instead of `steps`: as many as fit, found by timing some of them."""
    batch_size: int | None = Field(default=None, ge=1, le=10**6)
    """Default: as many pairs as have some 200 atoms, from 1 to 10."""
    consecutive_pairs: int = Field(default=1, ge=1, le=10**6)
    """Pairs in a row that each of the `batch_size` draws brings."""
    mass_weighting: float = Field(default=0.0, ge=0.0, le=1.0)
    """Power of the mass in the weight of an atom's squared errors: 0 counts them in Å
    and Å/fs, 1 in units of what atoms of their element move."""
    residual_sum_weight: float = Field(default=0.0, ge=0.0)
    """Of the squared sum of the residuals of pairs in a row, beside their squares."""
    optimizer: Literal["soap", "muon", "adamw", "adam-amsgrad"] = "soap"
    """"soap": Adam in the eigenbases of the gradients' covariances; "muon":
    orthogonalised momentum. Both for matrices, with AdamW for all else."""
    learning_rate: float = Field(default=0.1, gt=0.0)
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Of Muon and SOAP."""
    refresh_every: int = Field(default=10, ge=1)
    """Steps between updates of the eigenbases of SOAP."""
    longest_side: int = Field(default=256, ge=0)
    """Of the weight matrices that SOAP turns into an eigenbasis; 0 is Adam."""
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    weight_decay: float = Field(default=1e-3, ge=0.0)
    """Decoupled; times the learning rate."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Default: 300, or a fifth of a shorter training."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    constant_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Part of the run at full learning rate before the cosine starts."""
    plateau_factor: float = Field(default=0.8, gt=0.0, lt=1.0)
    plateau_patience: int = Field(default=20, ge=0)
    """Validations without improvement before the rate is reduced."""
    gradient_clip: float = Field(default=1.0, gt=0.0)
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    reversal_probability: float = Field(default=0.5, ge=0.0, le=1.0)

    @property
    def n_steps(self) -> int:
        """Steps of the training.

        Raises
        ------
        ValueError
            They follow from `minutes`, which nobody has timed yet.
        """
        if self.steps is None:
            raise ValueError("optimizer.steps is not known before a step was timed")
        return self.steps

    @property
    def n_warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        if self.warmup_steps is None:
            return min(WARMUP_STEPS, self.n_steps // 5)
        return self.warmup_steps

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            given = "neither" if self.steps is None else "both"
            raise ValueError(
                f"{given} of steps and minutes is set; give one, such as steps = 20000 "
                "or minutes = 30"
            )
        return self

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        warmup = self.warmup_steps
        if None not in (warmup, self.steps) and warmup >= self.steps:  # type: ignore[operator]
            raise ValueError(
                f"warmup_steps = {warmup} must be below steps = {self.steps}; leave it "
                "out for a fifth of them"
            )
        return self

    @model_validator(mode="after")
    def _sums_have_terms(self) -> Self:
        if self.residual_sum_weight > 0 and self.consecutive_pairs == 1:
            raise ValueError(
                f"residual_sum_weight = {self.residual_sum_weight:g} needs pairs in "
                "a row to sum over; set consecutive_pairs to 2 or more"
            )
        return self


class RunConfig(_Section):
    """Where and how the training runs, and what it writes."""

    name: FileName = "model"
    init: Annotated[FilePath | str, Field(union_mode="left_to_right")] | None = None
    """Model whose weights the training starts from: a file, or a bundled name."""
    directory: FilePath = Path("training")
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")
    data_on: DataPlace = "auto"
    """Where the training pairs are: "device", once and with their neighbors; "host",
    from where each batch is sent; "auto": the device, if it is a GPU and they fit."""
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | Literal["measure"] = (
        "measure"
    )
    """Threads of each process; "measure" times one step for each count and decides."""
    backend: BackendChoice = "auto"
    checkpoint_minutes: float = Field(default=5.0, gt=0.0)
    validate_every: int = Field(default=1000, gt=0)
    log_every: int = Field(default=100, gt=0)
    tensorboard: bool = False
    licence: Text = ""
    citation: Text = ""
    thermostat: tuple[dict[str, str | float], ...] = ()
    """Recommended with the model, in order: ``{kind = "CSVR", time_constant_fs = 70}``;
    see :class:`trajcast_ase.thermostats.setting.ThermostatSetting`."""
    thermostat_chosen_by: Text = ""
    """What validation chose them."""

    @property
    def thermostat_setting(self) -> ThermostatSetting | None:
        """What the model file recommends; None without any thermostat."""
        if not self.thermostat:
            return None
        return ThermostatSetting(self.thermostat, self.thermostat_chosen_by)

    @model_validator(mode="after")
    def _thermostat_exists(self) -> Self:
        _ = self.thermostat_setting  # raises for one that cannot be made
        return self


class TrainingConfig(_Section):
    """All sections of a training configuration file."""

    data: DataConfig
    network: NetworkConfig
    optimizer: OptimizerConfig
    run: RunConfig = RunConfig()

    @classmethod
    def from_toml(cls, path: str | Path, *, minutes: float | None = None) -> Self:
        """Return the configuration in a TOML file.

        Paths in it are relative to the file's folder. ``run.init`` may also be the name
        of a bundled model, where no file has it; network and horizon are that model's
        where the file does not set them.

        Parameters
        ----------
        path : path
        minutes : float, optional
            Takes the place of ``optimizer.steps`` and ``optimizer.minutes``.

        Raises
        ------
        ValueError
            Not TOML, an unknown key, a value of another type or out of range, or a
            model that cannot be read; the text names the key or the model.
        """
        path = Path(path)
        if path.stat().st_size > LARGEST_TOML:
            raise ValueError(
                f"{path} has {path.stat().st_size:,} bytes, a configuration at most "
                f"{LARGEST_TOML:,}; give a TOML file"
            )
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        # Numbers of thousands of digits are a plain ValueError.
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not TOML: {error}") from error
        if minutes is not None:
            _set_minutes(content, minutes)
        return cls.from_dict(content, folder=path.parent, source=str(path))

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], *, folder: Path, source: str = "configuration"
    ) -> Self:
        """Return the configuration in a nested dictionary; see :meth:`from_toml`."""
        try:
            config = cls.model_validate(_with_tuples(_with_init(content, folder)))
        except ValidationError as error:
            # A misspelt key explains the missing one; name it first.
            found = error.errors()
            first = min(found, key=lambda one: one["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            what = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{source}: {key}: {what}") from error
        data = config.data.model_copy(
            update={
                "train": _expand(config.data.train, folder, f"{source}: data.train"),
                "validation": _expand(
                    config.data.validation, folder, f"{source}: data.validation"
                ),
            }
        )
        paths: dict[str, Path | str] = {"directory": folder / config.run.directory}
        if config.run.init is not None:
            paths["init"] = _model(config.run.init, folder)
        run = config.run.model_copy(update=paths)
        return config.model_copy(update={"data": data, "run": run})


def _set_minutes(content: dict[str, Any], minutes: float) -> None:
    """Replace the number of steps, and what only fits to it, by a time."""
    options = content.setdefault("optimizer", {})
    if isinstance(options, dict):
        for key in ("steps", "warmup_steps"):
            options.pop(key, None)
        options["minutes"] = minutes


def _with_init(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content with network and horizon of ``run.init`` where it has none."""
    run, data, network = (content.get(name, {}) for name in ("run", "data", "network"))
    sections = all(isinstance(section, dict) for section in (run, data, network))
    if not sections or not isinstance(run.get("init"), str | Path):
        return content
    header = read_header(find_model(_model(run["init"], folder)))
    # What an older file does not name has its default.
    config = ForecasterConfig.from_dict(header.config)
    known = {name: getattr(config, name) for name in NetworkConfig.model_fields}
    return content | {
        "data": {"horizon_fs": config.horizon_fs} | data,
        "network": known | network,
    }


def _with_tuples(value: Any) -> Any:
    """Return `value` with tuples for lists: TOML has lists only."""
    if isinstance(value, dict):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(entry) for entry in value)
    return value


def _model(init: Path | str, folder: Path) -> Path | str:
    """Return a file relative to `folder`, or the bundled name where there is none."""
    path, name = folder / init, str(init)
    return name if name in available_models() and not path.exists() else path


def _expand(patterns: tuple[str, ...], folder: Path, key: str) -> tuple[str, ...]:
    """Return the files that match `patterns`, sorted within each.

    Brackets in the folder, or in the name of a file that is there, are no pattern.
    """
    files: list[str] = []
    for pattern in patterns:
        path = folder / pattern
        try:
            found = [str(path)] if path.is_file() else _matches(pattern, folder)
        # Names that are too long, and patterns that are none.
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(
                f"{key}: {shortened(pattern)} is no file or pattern ({error})"
            ) from error
        if not found:
            raise ValueError(f"{key}: {path} matches no file")
        files += found
    return tuple(files)


def _matches(pattern: str, folder: Path) -> list[str]:
    path = Path(pattern)
    if path.is_absolute():
        folder, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    return sorted(str(match) for match in folder.glob(pattern))
