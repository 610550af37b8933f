"""Strides in blocks on a device: started by the host, which asks at the end of each.

At the end of a block the host reads one small tensor: whether all numbers were finite,
and how much room the lists of neighbors needed. If a list had too little, the block is
made again from its start with more: a stride is a function of the state and the number
of the stride, so that nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trajcast_ase.constraints import Constraints
from trajcast_ase.device.baths import (
    NEEDS,
    checked_baths,
    constants_of,
    partitions_of,
    set_variables,
    variables_of,
)
from trajcast_ase.device.capture import Runner, runner
from trajcast_ase.device.draws import DrawPlan, Need
from trajcast_ase.device.forecast import NetworkModel, StaticModel, static_model
from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.device.memory import check_memory
from trajcast_ase.device.out_of_memory import explained_memory
from trajcast_ase.device.stride import DeviceStride, Motion
from trajcast_ase.kinetics import UNCONSTRAINED, ThermalMotion, ThermalSpace
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.molecular import Partition
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat, check_thermal

BLOCK = 50
"""Most strides between two looks of the host."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the host knows after a block.

    Attributes
    ----------
    strides : int
        How many were made: up to the first that left a system without finite numbers.
    failed : tuple of int
        Those systems.
    """

    strides: int
    failed: tuple[int, ...]


class Engine:
    """A batch of systems that stays on a device while it moves.

    Parameters
    ----------
    model : ForecastModel
        A :class:`.Forecaster`, or a model that reads nothing on the host.
    thermostats : sequence of CSVR, MolecularCSVR, Langevin and AdaptiveLangevin
    timestep : float, ASE units
    noise : ForecastNoise, optional

    Attributes
    ----------
    n_looks : int
        How often the host read from the device.

    Raises
    ------
    ValueError
        A thermostat that acts on the host alone, or a model on several devices.
    """

    def __init__(
        self,
        model: ForecastModel,
        thermostats: Sequence[Thermostat],
        timestep: float,
        noise: ForecastNoise | None = None,
    ) -> None:
        check_one_device(model)
        self._model, self._timestep, self._noise = model, timestep, noise
        self._baths = checked_baths(thermostats)
        self._drawing = (*self._baths, noise) if noise else self._baths
        self._shown: State | None = None
        self._constants = constants_of(self._baths)
        self._static: StaticModel
        self._stride: DeviceStride
        self._runner: Runner
        self._start: Motion
        self.n_looks = 0

    def start(
        self,
        state: State,
        going: Sequence[bool] | None = None,
        constraints: Constraints = UNCONSTRAINED,
    ) -> None:
        """Take over a state, and the variables of thermostats and noise.

        Parameters
        ----------
        state : State
            On the device of the model.
        going : sequence of bool, optional
            Which systems move; default: all.
        constraints : Constraints, optional

        Raises
        ------
        ValueError
            An element or a cell that cannot be forecast, or thermostats and a system
            without a thermal degree of freedom, or of another kind than one acts on.
        MemoryError
            The device has too little memory; the text says how many atoms fit.
        """
        for one in self._drawing:
            one.streams.check_systems(state.n_systems)
            one.draw_keys()
        baths = tuple(variables_of(bath, state.device) for bath in self._baths)
        motion = Motion.of(
            state.positions,
            state.velocities,
            baths,
            variables_of(self._noise, state.device) if self._noise else {},
            state.n_systems,
        )
        if not self._is_laid_out(state, constraints):
            self._lay_out(state, constraints, motion)
        self._shown = state
        self._start = motion
        self._runner.start(motion)
        self.set_going(going or [True] * state.n_systems)

    def advance(self, strides: int, made_before: Sequence[int]) -> Made:
        """Make up to :data:`BLOCK` strides from the start of a block.

        Parameters
        ----------
        strides : int
        made_before : sequence of int
            Number of strides that each system has made.

        Raises
        ------
        ValueError
            Fewer or more strides than a block has.
        """
        if not 1 <= strides <= BLOCK:
            raise ValueError(f"strides = {strides} are not between 1 and {BLOCK}")
        self._set_temperatures(strides, made_before)
        while True:
            self._runner.run(strides)
            failed, needed = self._look()
            if self._static.rooms.suffices(needed):
                break
            self._grow(needed)
        ticks = [tick for tick in failed if tick > 0]
        if not ticks:
            return Made(strides, ())
        first = min(ticks)
        if first < strides:
            self.back_to(first)
        return Made(first, tuple(k for k, tick in enumerate(failed) if tick == first))

    def back_to(self, strides: int) -> None:
        """Be where the block was after `strides`."""
        self._runner.start(self._start)
        self._runner.run(strides)

    def set_going(self, going: Sequence[bool]) -> None:
        """Choose which systems move from now on."""
        chosen = torch.tensor(list(going), device=self._stride.going.device)
        self._stride.going.copy_(chosen)

    def go_on(self) -> None:
        """Make one more stride of a block whose strides had room."""
        self._runner.run(1)

    def go_on_from(self, forecast: State, systems: Sequence[bool]) -> None:
        """Make one more stride, of which some `systems` take their `forecast` so."""
        motion = self._runner.motion
        chosen = torch.tensor(list(systems), device=motion.failed.device)
        with torch.no_grad():
            after = self._stride.forced(motion, forecast, chosen)
        self._runner.start(after)

    def now(self) -> State:
        """Return the state, its velocities not yet rounded as Atoms store them."""
        positions, _, velocities = self._runner.motion.now.clone()
        return self._of(positions, velocities)

    def before(self) -> State:
        """Return the state before the last stride, as :meth:`now` does."""
        positions, _, velocities = self._runner.motion.before.clone()
        return self._of(positions, velocities)

    def stored_before(self) -> State:
        """Return the state before the last stride as Atoms store it."""
        positions, velocities, _ = self._runner.motion.before.clone()
        return self._of(positions, velocities)

    def forecast(self) -> State:
        """Return the last forecast, before thermostats."""
        positions, velocities = self._runner.motion.forecast.clone()
        return self._of(positions, velocities)

    def hand_over(self) -> None:
        """Let thermostats and noise go on from their variables here."""
        motion = self._runner.motion
        for bath, variables in zip(self._baths, motion.baths, strict=True):
            set_variables(bath, variables)
        if self._noise is not None:
            set_variables(self._noise, motion.noise)

    def _of(self, positions: Tensor, velocities: Tensor) -> State:
        assert self._shown is not None  # noqa: S101  there was a start
        return self._shown.moved(positions, velocities)

    def _is_laid_out(self, state: State, constraints: Constraints) -> bool:
        """Return whether the layout is that of `state`, and the layers still hold."""
        shown = self._shown
        names = ("masses", "atomic_numbers", "cell", "pbc", "system_index")
        if shown is None or not all(
            _same(getattr(shown, name), getattr(state, name)) for name in names
        ):
            return False
        if self._constants != constants_of(self._baths):
            return False
        held = self._stride.constraints
        if not _same(held.free, constraints.free):
            return False
        if not _same(held.resting, constraints.resting):
            return False
        static = self._static
        return not isinstance(static, NetworkModel) or (
            static.layers is static.network.ready_layers()
            and static.one_hot.dtype == static.network.dtype
        )

    def _lay_out(self, state: State, constraints: Constraints, motion: Motion) -> None:
        """Decide all that the host decides for these atoms, cells and constraints."""
        rule = self._model.conservation
        partitions: tuple[Partition | None, ...] = ()
        if self._baths:
            space = ThermalSpace.of(state, rule, constraints)
            check_thermal(space)
            partitions = partitions_of(self._baths, ThermalMotion(state, space))
        with torch.no_grad():
            self._static = static_model(self._model, state)
        device, n_systems = state.device, state.n_systems
        size = (BLOCK, len(self._baths), n_systems)
        frame = LaidOutState.of(state)
        needs = [NEEDS[type(bath)] for bath in self._baths]
        noise = None
        if self._noise is not None:
            self._noise.check_elements(state.atomic_numbers)
            noise = self._noise.factors(state.atomic_numbers)
            needs.append(Need.FOR_NOISE)
        self._stride = DeviceStride(
            frame,
            self._static,
            rule,
            constraints,
            noise,
            self._baths,
            partitions,
            DrawPlan.of(needs, frame) if needs else None,
            self._timestep,
            thermal=torch.ones(size, dtype=torch.float64, device=device),
            going=torch.ones(n_systems, dtype=torch.bool, device=device),
        )
        self._constants = constants_of(self._baths)
        self._prepare(motion)

    def _prepare(self, motion: Motion) -> None:
        """Make the runner of the present stride, on a GPU by capturing it."""
        # A graph keeps its memory, which the next one needs. Without, nothing is shown.
        shown, self._shown = self._shown, None
        vars(self).pop("_runner", None)
        check_memory(self._stride)
        frame = self._stride.frame
        with explained_memory("a stride", frame.n_atoms, frame.device):
            self._runner = runner(self._stride, motion)
        self._shown = shown

    def _grow(self, needed: tuple[int, int, int]) -> None:
        """Begin the block anew with more room."""
        self._static = self._static.with_rooms(self._static.rooms.grown(needed))
        self._stride = replace(self._stride, model=self._static)
        self._prepare(self._start)

    def _look(self) -> tuple[list[int], tuple[int, int, int]]:
        """Return when systems failed, and what lists needed; the host waits here."""
        self.n_looks += 1
        motion = self._runner.motion
        *failed, pairs, box, edges = torch.cat([motion.failed, motion.needed]).tolist()
        return failed, (pairs, box, edges)

    def _set_temperatures(self, strides: int, made_before: Sequence[int]) -> None:
        """Write kT of each stride to come."""
        if not self._baths:
            return
        known: dict[int, list[list[float]]] = {}
        for made in set(made_before):
            times = [(made + tick + 1) * self._timestep for tick in range(strides)]
            known[made] = [
                [bath.thermal_energy(time) for bath in self._baths] for time in times
            ]
        values = torch.tensor(
            [known[made] for made in made_before], dtype=torch.float64
        )
        self._stride.thermal[:strides].copy_(values.permute(1, 2, 0))


def check_one_device(model: ForecastModel) -> None:
    """Raise ValueError for a model whose parameters are on several devices."""
    if not isinstance(model, torch.nn.Module):
        return
    found = {
        str(tensor.device): name
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    if len(found) > 1:
        where = ", ".join(f"{name} on {device}" for device, name in found.items())
        raise ValueError(
            f"the model is on several devices ({where}); move all of it with "
            "model.to(device)"
        )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether tensors are equal; the same one is not read."""
    if one is other or one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)
