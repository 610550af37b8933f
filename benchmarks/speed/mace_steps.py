"""Time steps of MACE under ASE: a script for a Python that has mace-torch.

    python mace_steps.py quartz.xyz --timestep 1.0 --threads 1 --clock wall

Needs ase, torch and mace alone, since mace-torch wants an older e3nn than ours. The
network has the size of MACE-MP (medium), and random weights: nothing is loaded. Prints
the median of the seconds per step.
"""

import argparse
import statistics
import time

import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from ase.md.verlet import VelocityVerlet

N_STEPS = 5
N_WARMUP = 2


def calculator(atoms: Atoms, device: str) -> Calculator:
    """Return MACE for the elements of the system."""
    from mace.calculators import MACECalculator  # noqa: PLC0415
    from mace.modules import (  # noqa: PLC0415
        ScaleShiftMACE,
        gate_dict,
        interaction_classes,
    )

    # isort: split
    # After mace, which lets torch read the constants of an old e3nn.
    from e3nn import o3  # noqa: PLC0415

    numbers = sorted(set(atoms.numbers.tolist()))
    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    torch.manual_seed(0)
    model = ScaleShiftMACE(
        r_max=6.0,
        num_bessel=10,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=gate_dict["silu"],
        atomic_energies=[0.0] * len(numbers),
        avg_num_neighbors=60.0,
        atomic_numbers=numbers,
        correlation=3,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return MACECalculator(models=[model], device=device, default_dtype="float32")


def main() -> None:
    """Print the seconds per step."""
    parser = argparse.ArgumentParser(description="Time steps of MACE.")
    parser.add_argument("atoms", help="Structure with momenta.")
    parser.add_argument("--timestep", type=float, help="fs.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    atoms = read(options.atoms)
    atoms.calc = calculator(atoms, options.device)
    dynamics = VelocityVerlet(atoms, options.timestep * units.fs)
    seconds = []
    # Forces come back to the CPU at each step: nothing runs on when the clock is read.
    for _ in range(N_WARMUP + N_STEPS):
        start = clock()
        dynamics.run(1)
        seconds.append(clock() - start)
    print(statistics.median(seconds[N_WARMUP:]))


if __name__ == "__main__":
    main()
