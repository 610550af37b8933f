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
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.state import State

# Principal moments below this fraction of the largest are those of a linear molecule.
SMALLEST_MOMENT = 1e-8


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
    weighted = _sum_systems(state, state.masses[:, None] * values)
    return weighted / _sum_systems(state, state.masses[:, None])


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
    index = state.system_index
    moving = torch.cat([state.velocities, displacements, velocities], dim=1)
    drift, shift, flow = mass_average(state, moving).split_with_sizes([3, 3, 3], dim=1)
    displacements = displacements + (drift * horizon_fs - shift)[index]
    velocities = velocities + (drift - flow)[index]
    isolated = ~state.pbc.any(dim=1)
    if rule.angular and bool(isolated.any()):
        after = state.moved(state.positions + displacements, velocities)
        relative = _relative(after)
        spin = _missing_rotation(state, after, relative, rule) * isolated[:, None]
        velocities = velocities + torch.linalg.cross(spin[index], relative)
    return displacements, velocities


def rigid_motion(state: State, rule: Conservation) -> Float[Tensor, "atoms 3"]:
    r"""Return the velocities that the conserved momenta prescribe, Å/fs.

    :math:`V + I^{+} L \times r'` for isolated systems whose angular momentum is
    conserved, :math:`V` for all others. In the mass-weighted inner product the rest
    of the motion is orthogonal to it.
    """
    index = state.system_index
    drift = com_velocity(state)[index]
    isolated = ~state.pbc.any(dim=1)
    if not rule.angular or not bool(isolated.any()):
        return drift
    relative = _relative(state)
    spin = _angular_velocity(state, relative, angular_momentum(state))
    spin = spin * isolated[:, None]
    turning: Tensor = torch.linalg.cross(spin[index], relative)
    return drift + turning


def n_conserved(state: State, rule: Conservation) -> Int[Tensor, " systems"]:
    """Return how many components of (angular) momentum each system conserves.

    3 for periodic systems; 6 for isolated ones, 5 where all atoms lie on a line and 3
    for a single atom.
    """
    isolated = ~state.pbc.any(dim=1)
    momentum = torch.full_like(isolated, 3, dtype=torch.int64)
    if not rule.angular or not bool(isolated.any()):
        return momentum
    rank: Tensor = torch.linalg.matrix_rank(
        _inertia(state, _relative(state)), rtol=SMALLEST_MOMENT, hermitian=True
    )
    return momentum + rank * isolated


def angular_momentum(state: State) -> Float[Tensor, "systems 3"]:
    """Return each system's angular momentum about its centre of mass, amu Å²/fs."""
    return _angular_momentum(state, _relative(state))


def _angular_momentum(
    state: State, relative: Float[Tensor, "atoms 3"]
) -> Float[Tensor, "systems 3"]:
    """Return it from positions `relative` to each system's centre of mass."""
    velocities = state.velocities - com_velocity(state)[state.system_index]
    moment = torch.linalg.cross(relative, velocities)
    return _sum_systems(state, state.masses[:, None] * moment)


def _missing_rotation(
    before: State,
    after: State,
    relative: Float[Tensor, "atoms 3"],
    rule: Conservation,
) -> Float[Tensor, "systems 3"]:
    """Return the angular velocity that restores the angular momentum, 1/fs.

    `relative` are the positions after the stride, from each system's centre of mass.
    """
    if rule.fixed_angular is None:
        target = angular_momentum(before)
    else:
        target = before.positions.new_tensor(rule.fixed_angular)
    missing = target - _angular_momentum(after, relative)
    return _angular_velocity(after, relative, missing)


def _angular_velocity(
    state: State,
    relative: Float[Tensor, "atoms 3"],
    momentum: Float[Tensor, "systems 3"],
) -> Float[Tensor, "systems 3"]:
    """Return the angular velocity of `momentum` with each system's inertia, 1/fs.

    Autograd through a pseudo-inverse is singular for equal principal moments, so the
    derivative of :math:`I^{+} L` is written out: :math:`I^{+} (dL - dI ω)`.
    """
    inertia = _inertia(state, relative)
    # A forecast that is not finite stays so through `momentum`, without an exception.
    inverse: Tensor = torch.linalg.pinv(
        torch.nan_to_num(inertia.detach(), 0.0, 0.0, 0.0),
        rtol=SMALLEST_MOMENT,
        hermitian=True,
    )
    momentum = momentum[:, :, None]
    if inertia.requires_grad:
        spin = inverse @ momentum.detach()
        momentum = momentum - (inertia - inertia.detach()) @ spin
    return (inverse @ momentum).squeeze(2)


def _inertia(
    state: State, relative: Float[Tensor, "atoms 3"]
) -> Float[Tensor, "systems 3 3"]:
    """Return each system's tensor of inertia about its centre of mass."""
    r = relative
    identity = torch.eye(3, dtype=r.dtype, device=r.device)
    squares = (r * r).sum(1)[:, None, None] * identity
    outer = r[:, :, None] * r[:, None, :]
    return _sum_systems(state, state.masses[:, None, None] * (squares - outer))


def _relative(state: State) -> Float[Tensor, "atoms 3"]:
    """Return positions relative to each system's centre of mass."""
    center = mass_average(state, state.positions)
    return state.positions - center[state.system_index]


def _sum_systems(state: State, values: Tensor) -> Tensor:
    """Return the sum of per-atom `values` over each system."""
    total = values.new_zeros(state.n_systems, *values.shape[1:])
    return total.index_add(0, state.system_index, values)
