r"""From the raw forecast to one that conserves momentum exactly, in float64.

==========  ===================  ====================  ==============
symbol      variable             shape                 unit
==========  ===================  ====================  ==============
:math:`M`   ``total_mass``       (n_systems,)          amu
:math:`V`   ``com_velocity``     (n_systems, 3)        Å/fs
:math:`L`   ``target``           (n_systems, 3)        amu Å²/fs
:math:`I`   ``inertia``          (n_systems, 3, 3)     amu Å²
==========  ===================  ====================  ==============

One rule for every input, without the published code's switch at a total momentum of
exactly zero: the centre of mass moves by :math:`V Δt`, total momentum stays the
input's, and so does the angular momentum of a system without periodic axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.state import State, sum_systems

# Principal moments below this fraction of the largest are those of a linear molecule.
SMALLEST_MOMENT = 1e-8
# amu Å². A single atom has none but that of the rounding of its centre of mass.
SMALLEST_INERTIA = 1e-12


@dataclass(frozen=True, slots=True)
class Conservation:
    """Which angular momentum a forecast conserves.

    Attributes
    ----------
    angular : bool
        Correct the angular momentum of systems without any periodic axis.
    fixed_angular : tuple of 3 floats or None, amu Å²/fs
        The value to impose; None keeps the input's.
    """

    angular: bool = True
    fixed_angular: tuple[float, float, float] | None = None


def com_velocity(state: State) -> Float[Tensor, "systems 3"]:
    """Return the velocity of each system's centre of mass, Å/fs."""
    return mass_average(state, state.velocities)


def mass_average(
    state: State, values: Float[Tensor, "atoms columns"]
) -> Float[Tensor, "systems columns"]:
    """Return the mass-weighted mean of `values` over each system."""
    return _mean(state, values, _total_mass(state))


def _mean(
    state: State,
    values: Float[Tensor, "atoms columns"],
    total_mass: Float[Tensor, "systems 1"],
) -> Float[Tensor, "systems columns"]:
    weighted = sum_systems(state, state.masses[:, None] * values)
    return weighted / total_mass


def _total_mass(state: State) -> Float[Tensor, "systems 1"]:
    return sum_systems(state, state.masses[:, None])


def conserve(
    state: State,
    displacements: Float[Tensor, "atoms 3"],
    velocities: Float[Tensor, "atoms 3"],
    horizon_fs: float,
    rule: Conservation,
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
    r"""Return displacements and velocities with exact (angular) momentum.

    .. math::
        d_i' &= d_i + V Δt - \bar d, \qquad v_i' = v_i + V - \bar v \\
        v_i'' &= v_i' + I^{+} (L - L') \times r_i'

    where bars are mass-weighted means and :math:`r'` is relative to the new centre of
    mass. The pseudo-inverse serves linear molecules and single atoms.

    Parameters
    ----------
    state : State
        Before the stride.
    displacements : (n_atoms, 3) float64, Å
    velocities : (n_atoms, 3) float64, Å/fs
        Raw forecast, in any frame.
    horizon_fs : float, fs
    rule : Conservation

    Notes
    -----
    Thiemann et al., arXiv:2503.23794, section on momentum conservation.
    """
    return conserve_with_bodies(state, displacements, velocities, horizon_fs, rule)[:2]


def conserve_with_bodies(
    state: State,
    displacements: Float[Tensor, "atoms 3"],
    velocities: Float[Tensor, "atoms 3"],
    horizon_fs: float,
    rule: Conservation,
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"], RigidBodies]:
    """Return what :func:`conserve` does, and the systems as bodies after the stride."""
    index = state.system_index
    columns = torch.cat(
        [state.positions, displacements, state.velocities, velocities], dim=1
    )
    total_mass = _total_mass(state)
    means = _mean(state, columns, total_mass)[index]
    # In the frame that moves with the centre of mass; it leaves out the drift.
    centered = (columns - means).split_with_sizes([3, 3, 3, 3], dim=1)
    relative, displacements, before, velocities = centered
    drift = means[:, 6:9]
    displacements = displacements + drift * horizon_fs
    after = state.moved(state.positions + displacements, velocities + drift)
    if not _rotates(after, rule):
        return displacements, after.velocities, RigidBodies(after, total_mass, None)
    # From the positions alone, so that the bodies are those of `RigidBodies.of`.
    turned = _relative(after, total_mass)
    lost = -torch.linalg.cross(turned, velocities)
    if rule.fixed_angular is None:
        lost = lost + torch.linalg.cross(relative, before)
    rotations, missing = Rotations.of(after, turned, lost)
    if rule.fixed_angular is not None:
        # Filled where they are: a stride on a device copies nothing from the host.
        fixed = [state.positions.new_full((1,), one) for one in rule.fixed_angular]
        missing = missing + torch.cat(fixed)
    velocities = after.velocities + rotations.turning(missing, index)
    return displacements, velocities, RigidBodies(after, total_mass, rotations)


@dataclass(frozen=True, slots=True)
class Rotations:
    """Rotations about the centres of mass, where angular momentum is conserved.

    Attributes
    ----------
    relative : (n_atoms, 3), Å
        Positions relative to each system's centre of mass.
    inertia, inverse : (n_systems, 3, 3), amu Å² and its pseudo-inverse
        The latter is zero for systems with a periodic axis, which do not rotate.
    n_axes : (n_systems,)
        3; for atoms on a line 2, for a single atom or a periodic system 0.
    """

    relative: Float[Tensor, "atoms 3"]
    inertia: Float[Tensor, "systems 3 3"]
    inverse: Float[Tensor, "systems 3 3"]
    n_axes: Int[Tensor, " systems"]

    @classmethod
    def of(
        cls,
        state: State,
        relative: Float[Tensor, "atoms 3"],
        moments: Float[Tensor, "atoms 3"],
    ) -> tuple[Rotations, Float[Tensor, "systems 3"]]:
        """Return the rotations of `state`, and in the same pass a sum over systems.

        Parameters
        ----------
        state : State
        relative : (n_atoms, 3), Å
        moments : (n_atoms, 3)
            Their sum, weighted by mass, is returned, too.
        """
        outer = (relative[:, :, None] * relative[:, None, :]).flatten(1)
        columns = torch.cat([outer, moments], dim=1)
        sums = sum_systems(state, state.masses[:, None] * columns)
        inertia = -sums[:, :9].reshape(-1, 3, 3)
        diagonal = inertia.diagonal(dim1=1, dim2=2)
        diagonal.sub_(diagonal.sum(dim=1, keepdim=True))
        inverse, n_axes = _pseudo_inverse(inertia, ~state.pbc.any(dim=1))
        return cls(relative, inertia, inverse, n_axes), sums[:, 9:]

    def weights(self, index: Int[Tensor, " atoms"]) -> Float[Tensor, " atoms"]:
        r"""Return :math:`\mathrm{tr}\, I^{+} (r'^2 - r' r'^T)` of each atom, 1/amu."""
        inverse = self.inverse[index]
        trace = inverse.diagonal(dim1=1, dim2=2).sum(dim=1)
        along = (inverse @ self.relative[:, :, None]).squeeze(2) * self.relative
        return trace * self.relative.square().sum(dim=1) - along.sum(dim=1)

    def turning(
        self, momentum: Float[Tensor, "systems 3"], index: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms 3"]:
        r"""Return the velocities :math:`I^{+} L \times r'` of `momentum`, Å/fs.

        Autograd through a pseudo-inverse is singular for equal principal moments, so
        the derivative of :math:`I^{+} L` is written out: :math:`I^{+} (dL - dI ω)`.

        Parameters
        ----------
        momentum : (n_systems, 3), amu Å²/fs
        index : (n_atoms,)
            System of each atom.
        """
        column = momentum[:, :, None]
        if self.inertia.requires_grad:
            spin = self.inverse @ column.detach()
            column = column - (self.inertia - self.inertia.detach()) @ spin
        spin = (self.inverse @ column).squeeze(2)
        turning: Tensor = torch.linalg.cross(spin[index], self.relative)
        return turning


@dataclass(frozen=True, slots=True)
class RigidBodies:
    """The systems of a state at their positions, moved by their momenta alone.

    Attributes
    ----------
    state : State
    total_mass : (n_systems, 1), amu
    rotations : Rotations or None
        None where no system conserves angular momentum.
    """

    state: State
    total_mass: Float[Tensor, "systems 1"]
    rotations: Rotations | None

    @classmethod
    def of(cls, state: State, rule: Conservation) -> RigidBodies:
        """Return the systems of `state`; `rule` says whether they rotate."""
        total_mass = _total_mass(state)
        if not _rotates(state, rule):
            return cls(state, total_mass, None)
        relative = _relative(state, total_mass)
        rotations, _ = Rotations.of(state, relative, torch.zeros_like(relative))
        return cls(state, total_mass, rotations)

    @property
    def n_conserved(self) -> Int[Tensor, " systems"]:
        """How many components of (angular) momentum each system conserves.

        3 for periodic systems; 6 for isolated ones, 5 where all atoms lie on a line
        and 3 for a single atom.
        """
        if self.rotations is None:
            return torch.full(self.state.pbc.shape[:1], 3, device=self.state.device)
        return self.rotations.n_axes + 3

    def motion(self, velocities: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3"]:
        r"""Return the velocities that the momenta of `velocities` prescribe, Å/fs.

        :math:`V + I^{+} L \times r'` for isolated systems whose angular momentum is
        conserved, :math:`V` for all others. In the mass-weighted inner product the
        rest of the motion is orthogonal to it.
        """
        index = self.state.system_index
        if self.rotations is None:
            return _mean(self.state, velocities, self.total_mass)[index]
        relative = self.rotations.relative
        # About the centre of mass the drift has no moment.
        moments = torch.linalg.cross(relative, velocities)
        columns = torch.cat([velocities, moments], dim=1)
        momenta = sum_systems(self.state, self.state.masses[:, None] * columns)
        drift = (momenta[:, :3] / self.total_mass)[index]
        return drift + self.rotations.turning(momenta[:, 3:], index)


def angular_momentum(state: State) -> Float[Tensor, "systems 3"]:
    """Return each system's angular momentum about its centre of mass, amu Å²/fs."""
    thermal = state.velocities - com_velocity(state)[state.system_index]
    moments = torch.linalg.cross(_relative(state, _total_mass(state)), thermal)
    return sum_systems(state, state.masses[:, None] * moments)


def _rotates(state: State, rule: Conservation) -> bool:
    """Return whether any system conserves its angular momentum."""
    return rule.angular and state.has_isolated()


def _pseudo_inverse(
    inertia: Float[Tensor, "systems 3 3"], isolated: Bool[Tensor, " systems"]
) -> tuple[Float[Tensor, "systems 3 3"], Int[Tensor, " systems"]]:
    r"""Return the pseudo-inverse, without derivative, and its rank.

    Both are zero for systems that are not `isolated`.

    In closed form, since eigenvalues make the host wait for a GPU: with the cofactors
    :math:`C` the inverse is :math:`C / \det I`. Of atoms on a line two moments are
    equal, :math:`\mathrm{tr}\,I / 2`, and the third is zero, so that the
    pseudo-inverse is :math:`I / (\mathrm{tr}\,I / 2)^2`.
    """
    rows = inertia.detach()
    cofactors = torch.linalg.cross(rows.roll(-1, 1), rows.roll(-2, 1))
    determinant = (rows * cofactors).sum(dim=(1, 2)) / 3
    half_trace = 0.5 * rows.diagonal(dim1=1, dim2=2).sum(dim=1)
    products = cofactors.diagonal(dim1=1, dim2=2).sum(dim=1)
    # The least moment, where it is far below the others, which then are half the trace.
    least = determinant / products
    exists = isolated & (half_trace > SMALLEST_INERTIA)
    is_line = exists & (least <= SMALLEST_MOMENT * half_trace)
    is_body = exists ^ is_line
    # A forecast that is not finite stays so through the momentum, without an exception.
    of_body = cofactors / torch.where(is_body, determinant, torch.inf)[:, None, None]
    of_line = rows / torch.where(is_line, half_trace.square(), torch.inf)[:, None, None]
    inverse = of_body + of_line
    return inverse, 3 * is_body + 2 * is_line


def _relative(
    state: State, total_mass: Float[Tensor, "systems 1"]
) -> Float[Tensor, "atoms 3"]:
    """Return positions relative to each system's centre of mass."""
    center = _mean(state, state.positions, total_mass)
    return state.positions - center[state.system_index]
