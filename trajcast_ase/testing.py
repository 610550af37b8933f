"""Forecasters with known dynamics, and assertions, for tests of drivers and models.

:class:`Ballistic` and :class:`HarmonicCrystal` are exact, :class:`Shrinker` is wrong on
purpose: a physics test that accepts it proves nothing. All fulfil
:class:`trajcast_ase.stride.ForecastModel` and compute in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation, angular_momentum, com_velocity
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.stride import ForecastModel, conserved_forecast, stride
from trajcast_ase.units import FS

CPU = torch.device("cpu")
PERIODIC_ONLY = Conservation(angular=False)


@dataclass(frozen=True, slots=True)
class Ballistic:
    """Free flight: every atom keeps its velocity.

    Parameters
    ----------
    horizon_fs : float, fs
    elements : tuple of int, optional
        Atomic numbers that it accepts; empty accepts all.
    """

    horizon_fs: float = 7.0
    elements: tuple[int, ...] = ()
    conservation: Conservation = field(default=Conservation())
    device: torch.device = CPU

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Raise ValueError for an element that is not in `elements`."""
        for number in set(atomic_numbers.tolist()):
            if self.elements and number not in self.elements:
                raise ValueError(
                    f"element {chemical_symbols[number]} (atomic number {number}) is "
                    "unknown to this model, which knows "
                    + ", ".join(chemical_symbols[known] for known in self.elements)
                )

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and velocities (Å/fs) of free flight."""
        return state.velocities * self.horizon_fs, state.velocities

    def to(self, device: torch.device | str) -> Self:
        """Return the same model on `device`."""
        return replace(self, device=torch.device(device))


@dataclass(frozen=True, slots=True)
class Shrinker:
    """A wrong model: free flight that loses kinetic energy at each stride.

    Parameters
    ----------
    horizon_fs : float, fs
    factor : float
        By which each stride multiplies the velocities.
    """

    horizon_fs: float = 7.0
    factor: float = 0.99
    conservation: Conservation = PERIODIC_ONLY
    device: torch.device = CPU

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Accept every element."""

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and shrunken velocities (Å/fs)."""
        return state.velocities * self.horizon_fs, self.factor * state.velocities

    def to(self, device: torch.device | str) -> Self:
        """Return the same model on `device`."""
        return replace(self, device=torch.device(device))


@dataclass(frozen=True, slots=True, eq=False)
class HarmonicCrystal:
    r"""The exact map of a harmonic system over one horizon; symplectic.

    With :math:`u = r - r_0` and the mass-weighted Hessian
    :math:`D = M^{-1/2} H M^{-1/2} = E\,\mathrm{diag}(\omega^2)\,E^T`,

    .. math::

        M^{1/2} u' &= E [\cos(\omega t)\, q + \omega^{-1} \sin(\omega t)\, p] \\
        M^{1/2} v' &= E [\cos(\omega t)\, p - \omega \sin(\omega t)\, q]

    where :math:`q = E^T M^{1/2} u` and :math:`p = E^T M^{1/2} v`.

    Make one with :meth:`from_hessian` or :meth:`cubic`.

    Attributes
    ----------
    reference : (n_atoms, 3), Å
        Positions without any force.
    modes : (3 n_atoms, 3 n_atoms)
        Columns are the eigenvectors :math:`E`.
    frequencies : (3 n_atoms,), 1/fs
        Angular frequencies :math:`\omega`; zero for translations.
    masses : (n_atoms,), amu
    horizon_fs : float, fs
    """

    reference: Float[Tensor, "atoms 3"]
    modes: Float[Tensor, "modes modes"]
    frequencies: Float[Tensor, " modes"]
    masses: Float[Tensor, " atoms"]
    horizon_fs: float
    conservation: Conservation = PERIODIC_ONLY

    @classmethod
    def from_hessian(
        cls,
        atoms: Atoms,
        hessian: Float[np.ndarray, "modes modes"],
        horizon_fs: float = 7.0,
    ) -> Self:
        """Return the model of `atoms` at rest in a harmonic potential.

        Parameters
        ----------
        atoms : Atoms
            Reference positions and masses.
        hessian : (3 n_atoms, 3 n_atoms), eV/Å²
            Translations must cost nothing, because forecasts conserve momentum.
        horizon_fs : float, fs

        Raises
        ------
        ValueError
            A translation has a force, or a direction has negative curvature.
        """
        hessian = np.asarray(hessian, dtype=float)
        scale = np.abs(hessian).max()
        rows = hessian.reshape(3 * len(atoms), len(atoms), 3).sum(1)
        if np.abs(rows).max() > 1e-9 * scale:
            raise ValueError(
                f"a translation has a force of {np.abs(rows).max():.3g} eV/Å²; "
                "the rows of the Hessian must sum to zero"
            )
        root = np.repeat(np.sqrt(atoms.get_masses()), 3)
        squares, modes = np.linalg.eigh(hessian / np.outer(root, root))
        if squares[0] < -1e-9 * squares[-1]:
            raise ValueError(
                f"the Hessian has the negative curvature {squares[0]:.3g}; "
                "give a minimum"
            )
        squares = np.where(squares < 1e-9 * squares[-1], 0.0, squares)
        return cls(
            reference=torch.from_numpy(atoms.get_positions()),
            modes=torch.from_numpy(modes),
            frequencies=torch.from_numpy(np.sqrt(squares) * FS),
            masses=torch.from_numpy(atoms.get_masses()),
            horizon_fs=horizon_fs,
        )

    @classmethod
    def cubic(
        cls,
        n_side: int = 4,
        *,
        symbol: str = "Ar",
        spacing: float = 3.0,
        spring: float = 1.0,
        horizon_fs: float = 7.0,
    ) -> tuple[Self, Atoms]:
        """Return a periodic simple cubic crystal with isotropic springs, and its Atoms.

        Parameters
        ----------
        n_side : int
            Atoms along each edge; ``n_side**3`` in all.
        symbol : str
        spacing : float, Å
        spring : float, eV/Å²
            Between each atom and its six neighbors, the same in every direction.
        horizon_fs : float, fs
        """
        grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), axis=-1)
        sites = grid.reshape(-1, 3)
        atoms = Atoms(
            [symbol] * len(sites),
            positions=spacing * sites,
            cell=[spacing * n_side] * 3,
            pbc=True,
        )
        index = np.arange(len(sites)).reshape([n_side] * 3)
        laplacian = np.zeros((len(sites), len(sites)))
        for axis in range(3):
            neighbor = np.roll(index, 1, axis).ravel()
            np.add.at(laplacian, (index.ravel(), index.ravel()), 1.0)
            np.add.at(laplacian, (neighbor, neighbor), 1.0)
            np.add.at(laplacian, (index.ravel(), neighbor), -1.0)
            np.add.at(laplacian, (neighbor, index.ravel()), -1.0)
        hessian = spring * np.kron(laplacian, np.eye(3))
        return cls.from_hessian(atoms, hessian, horizon_fs), atoms

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.reference.device

    def to(self, device: torch.device | str) -> Self:
        """Return the same model on `device`."""
        return replace(
            self,
            reference=self.reference.to(device),
            modes=self.modes.to(device),
            frequencies=self.frequencies.to(device),
            masses=self.masses.to(device),
        )

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Raise ValueError for another number of atoms; elements do not matter."""
        if len(atomic_numbers) != len(self.masses):
            raise ValueError(
                f"{len(atomic_numbers)} atoms, but this crystal has {len(self.masses)}"
            )

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and velocities (Å/fs) of the exact map."""
        root = self.masses.sqrt()[:, None]
        q = self.modes.T @ (root * (state.positions - self.reference)).flatten()
        p = self.modes.T @ (root * state.velocities).flatten()
        phase = self.frequencies * self.horizon_fs
        cosine, sine = torch.cos(phase), torch.sin(phase)
        # sin(wt)/w at w = 0 is t.
        slope = self.horizon_fs * torch.sinc(phase / torch.pi)
        moved = self.modes @ ((cosine - 1) * q + slope * p)
        faster = self.modes @ (cosine * p - self.frequencies * sine * q)
        return moved.reshape(-1, 3) / root, faster.reshape(-1, 3) / root

    def potential_energy(self, atoms: Atoms) -> float:
        """Return the potential energy of `atoms`, eV."""
        u = torch.from_numpy(atoms.get_positions()) - self.reference.cpu()
        q = self.modes.cpu().T @ (self.masses.cpu().sqrt()[:, None] * u).flatten()
        return 0.5 * float(((self.frequencies.cpu() * q) ** 2).sum()) / FS**2


def assert_momentum_conserved(
    model: ForecastModel, atoms: Atoms, *, tolerance: float = 1e-13
) -> None:
    """Assert that one stride keeps the momenta which the model claims to conserve.

    Total momentum always; the angular momentum about the centre of mass if `atoms` is
    isolated and ``model.conservation`` says so.

    Parameters
    ----------
    model : ForecastModel
    atoms : Atoms
        With momenta.
    tolerance : float
        Largest change relative to the sum of the atoms' contributions; ten times as
        much for angular momentum.

    Raises
    ------
    AssertionError
        Naming what changed and by how much.
    """
    before = state_from_atoms([atoms], model.device)
    with torch.no_grad():
        after = stride(model, before)
    speed = after.velocities.norm(dim=1)
    scale = float((after.masses * speed).sum())
    change = (com_velocity(after) - com_velocity(before)) * before.masses.sum()
    _assert_small("total momentum", change, scale, tolerance)
    rule = model.conservation
    if rule.angular and rule.fixed_angular is None and not atoms.pbc.any():
        arm = (after.positions - after.positions.mean(0)).norm(dim=1)
        scale = float((after.masses * speed * arm).sum())
        change = angular_momentum(after) - angular_momentum(before)
        _assert_small("angular momentum", change, scale, 10 * tolerance)


def assert_equivariant(
    model: ForecastModel,
    atoms: Atoms,
    rng: np.random.Generator,
    *,
    tolerance: float = 1e-10,
) -> None:
    """Assert that a stride commutes with E(3) and with the order of the atoms.

    Parameters
    ----------
    model : ForecastModel
    atoms : Atoms
        With momenta.
    rng : numpy Generator
        Draws the symmetry operations.
    tolerance : float
        Largest deviation relative to the largest component; 1e-4 suits float32.

    Raises
    ------
    AssertionError
        Naming the operation and the deviation.
    """
    state = state_from_atoms([atoms], model.device)
    expected = _forecast(model, state)
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    for name, operation in (("orthogonal", matrix), ("inversion", -np.eye(3))):
        turn = torch.from_numpy(operation).to(model.device)
        actual = _forecast(model, _turned(state, turn))
        _assert_equal(f"{name} map", actual, expected @ turn.T, tolerance)
    shift = torch.from_numpy(rng.normal(size=3) * 10).to(model.device)
    actual = _forecast(model, state.moved(state.positions + shift, state.velocities))
    _assert_equal("translation", actual, expected, tolerance)
    order = torch.from_numpy(_random_cycle(len(atoms), rng)).to(model.device)
    actual = _forecast(model, _reordered(state, order))
    _assert_equal("permutation", actual, expected[:, order], tolerance)


def _random_cycle(n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Return a permutation that leaves nothing in place, if there are two or more."""
    members = rng.permutation(n)
    cycle = np.empty_like(members)
    cycle[members] = np.roll(members, 1)
    return cycle


def _forecast(model: ForecastModel, state: State) -> Float[Tensor, "2 atoms 3"]:
    """Return displacements (Å) and velocities (Å/fs)."""
    with torch.no_grad():
        return torch.stack(conserved_forecast(model, state))


def _turned(state: State, turn: Float[Tensor, "3 3"]) -> State:
    return replace(
        state,
        positions=state.positions @ turn.T,
        velocities=state.velocities @ turn.T,
        cell=state.cell @ turn.T,
    )


def _reordered(state: State, order: Int[Tensor, " atoms"]) -> State:
    return replace(
        state,
        positions=state.positions[order],
        velocities=state.velocities[order],
        masses=state.masses[order],
        atomic_numbers=state.atomic_numbers[order],
    )


def _assert_equal(
    name: str, actual: Tensor, expected: Tensor, tolerance: float
) -> None:
    # Displacements and velocities have their own scale.
    for quantity, a, e in zip(
        ("displacements", "velocities"), actual, expected, strict=True
    ):
        _assert_small(
            f"{quantity} under {name}", a - e, float(e.abs().max()), tolerance
        )


def _assert_small(name: str, change: Tensor, scale: float, tolerance: float) -> None:
    relative = float(change.abs().max()) / max(scale, torch.finfo(torch.float64).tiny)
    if not relative <= tolerance:
        raise AssertionError(
            f"{name}: deviation {relative:.3g} exceeds {tolerance:.3g}"
        )
