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
    weighted = sum_systems(state, state.masses[:, None] * values)
    return weighted / sum_systems(state, state.masses[:, None])


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
    moving = torch.cat([state.velocities, displacements, velocities], dim=1)
    drift, shift, flow = mass_average(state, moving).split_with_sizes([3, 3, 3], dim=1)
    displacements = displacements + (drift * horizon_fs - shift)[index]
    velocities = velocities + (drift - flow)[index]
    after = state.moved(state.positions + displacements, velocities)
    bodies = RigidBodies.of(after, rule)
    if bodies.rotations is not None:
        missing = _missing_momentum(state, after, bodies.rotations.relative, rule)
        velocities = velocities + bodies.rotations.turning(missing, index)
    return displacements, velocities, bodies


@dataclass(frozen=True, slots=True)
class Rotations:
    """Rotations about the centres of mass, where angular momentum is conserved.

    Attributes
    ----------
    isolated : (n_systems,) bool
        Systems without any periodic axis; the others do not rotate.
    relative : (n_atoms, 3), Å
        Positions relative to each system's centre of mass.
    inertia, inverse : (n_systems, 3, 3), amu Å² and its pseudo-inverse
    n_axes : (n_systems,)
        3; for atoms on a line 2, for a single atom 0.
    """

    isolated: Bool[Tensor, " systems"]
    relative: Float[Tensor, "atoms 3"]
    inertia: Float[Tensor, "systems 3 3"]
    inverse: Float[Tensor, "systems 3 3"]
    n_axes: Int[Tensor, " systems"]

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
        spin = (self.inverse @ column).squeeze(2) * self.isolated[:, None]
        turning: Tensor = torch.linalg.cross(spin[index], self.relative)
        return turning


@dataclass(frozen=True, slots=True)
class RigidBodies:
    """The systems of a state at their positions, moved by their momenta alone.

    Attributes
    ----------
    state : State
    rotations : Rotations or None
        None where no system conserves angular momentum.
    """

    state: State
    rotations: Rotations | None

    @classmethod
    def of(cls, state: State, rule: Conservation) -> RigidBodies:
        """Return the systems of `state`; `rule` says whether they rotate."""
        if not (rule.angular and state.has_isolated()):
            return cls(state, None)
        isolated = ~state.pbc.any(dim=1)
        relative = _relative(state)
        inertia = _inertia(state, relative)
        inverse, n_axes = _pseudo_inverse(inertia)
        return cls(state, Rotations(isolated, relative, inertia, inverse, n_axes))

    @property
    def n_conserved(self) -> Int[Tensor, " systems"]:
        """How many components of (angular) momentum each system conserves.

        3 for periodic systems; 6 for isolated ones, 5 where all atoms lie on a line
        and 3 for a single atom.
        """
        momentum = torch.full(self.state.pbc.shape[:1], 3, device=self.state.device)
        if self.rotations is None:
            return momentum
        return momentum + self.rotations.n_axes * self.rotations.isolated

    def motion(self, velocities: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3"]:
        r"""Return the velocities that the momenta of `velocities` prescribe, Å/fs.

        :math:`V + I^{+} L \times r'` for isolated systems whose angular momentum is
        conserved, :math:`V` for all others. In the mass-weighted inner product the
        rest of the motion is orthogonal to it.
        """
        index = self.state.system_index
        drift = mass_average(self.state, velocities)[index]
        if self.rotations is None:
            return drift
        relative = self.rotations.relative
        momentum = _angular_momentum(self.state, relative, velocities - drift)
        return drift + self.rotations.turning(momentum, index)


def angular_momentum(
    state: State, relative: Float[Tensor, "atoms 3"] | None = None
) -> Float[Tensor, "systems 3"]:
    """Return each system's angular momentum about its centre of mass, amu Å²/fs.

    `relative` are the positions from there, where they are known.
    """
    drift = com_velocity(state)[state.system_index]
    if relative is None:
        relative = _relative(state)
    return _angular_momentum(state, relative, state.velocities - drift)


def _angular_momentum(
    state: State,
    relative: Float[Tensor, "atoms 3"],
    velocities: Float[Tensor, "atoms 3"],
) -> Float[Tensor, "systems 3"]:
    """Return it from positions and velocities relative to the centre of mass."""
    moment = torch.linalg.cross(relative, velocities)
    return sum_systems(state, state.masses[:, None] * moment)


def _missing_momentum(
    before: State,
    after: State,
    relative: Float[Tensor, "atoms 3"],
    rule: Conservation,
) -> Float[Tensor, "systems 3"]:
    """Return the angular momentum that a stride has lost, amu Å²/fs."""
    if rule.fixed_angular is None:
        target = angular_momentum(before)
    else:
        # Filled where they are: a stride on a device copies nothing from the host.
        fixed = [before.positions.new_full((1,), one) for one in rule.fixed_angular]
        target = torch.cat(fixed)
    return target - angular_momentum(after, relative)


def _pseudo_inverse(
    inertia: Float[Tensor, "systems 3 3"],
) -> tuple[Float[Tensor, "systems 3 3"], Int[Tensor, " systems"]]:
    r"""Return the pseudo-inverse, without derivative, and its rank.

    In closed form, since eigenvalues make the host wait for a GPU: with the cofactors
    :math:`C` the inverse is :math:`C / \det I`. Of atoms on a line two moments are
    equal, :math:`\mathrm{tr}\,I / 2`, and the third is zero, so that the
    pseudo-inverse is :math:`I / (\mathrm{tr}\,I / 2)^2`.
    """
    rows = inertia.detach()
    x, y, z = rows.unbind(1)
    cofactors = torch.stack(
        [
            torch.linalg.cross(y, z),
            torch.linalg.cross(z, x),
            torch.linalg.cross(x, y),
        ],
        dim=1,
    )
    determinant = (x * cofactors[:, 0]).sum(dim=1)
    half_trace = 0.5 * rows.diagonal(dim1=1, dim2=2).sum(dim=1)
    products = cofactors.diagonal(dim1=1, dim2=2).sum(dim=1)
    # The least moment, where it is far below the others, which then are half the trace.
    least = determinant / torch.where(products > 0, products, 1.0)
    exists = half_trace > SMALLEST_INERTIA
    is_line = exists & (least <= SMALLEST_MOMENT * half_trace)
    is_body = exists & ~is_line
    # A forecast that is not finite stays so through the momentum, without an exception.
    of_body = cofactors / torch.where(is_body, determinant, 1.0)[:, None, None]
    of_line = rows / torch.where(is_line, half_trace, 1.0).square()[:, None, None]
    inverse = torch.where(
        is_body[:, None, None],
        of_body,
        torch.where(is_line[:, None, None], of_line, 0.0),
    )
    return inverse, 3 * is_body + 2 * is_line


def _inertia(
    state: State, relative: Float[Tensor, "atoms 3"]
) -> Float[Tensor, "systems 3 3"]:
    """Return each system's tensor of inertia about its centre of mass."""
    identity = torch.eye(3, dtype=relative.dtype, device=relative.device)
    squares = (relative * relative).sum(1)[:, None, None] * identity
    outer = relative[:, :, None] * relative[:, None, :]
    return sum_systems(state, state.masses[:, None, None] * (squares - outer))


def _relative(state: State) -> Float[Tensor, "atoms 3"]:
    """Return positions relative to each system's centre of mass."""
    center = mass_average(state, state.positions)
    return state.positions - center[state.system_index]
