"""The page of ``reversal_roc.py``: tables and figure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from study_pages import describe_machine, table

from trajcast_ase.analysis.plots.style import finish, legend_style

PANEL_INCHES = (3.8, 4.4)
TITLE = """# Going back: what it sees

A stride, all velocities reversed, a stride, all velocities reversed: exact dynamics is
back at its start, and a [`ReversalGuard`](../limits.md#going-back) objects where a
forecast misses it by more than is usual. Here are states that the models do not know,
against states that they do. Written by `benchmarks/studies/reversal_roc.py`."""
FOUND = """Area under the ROC by the largest deviation of an atom, by the root mean
square over the system, and by both; share of single looks that find it where one look
in a thousand at 300 K objects (or none does, of fewer looks than that), and as the
guard comes, with one false alarm in a million; ratio of the medians to
those at 300 K."""
STATED = """Looks at states of 300 K that object, beside the rate that was asked for;
the limits of the guard as it comes, and the largest value at 300 K (in units of what is
usual). Limits come from the first half of the run, looks from the second."""
TRUTH = """What going back misses beside the true error, on pairs of NVE runs that no
training saw: correlation of the logarithms, of single atoms and of the root mean square
over the system, and the ratio of the two (1.4 if the errors there and back know nothing
of each other)."""
HOW = """Hotter states are LAMMPS runs with CSVR at the volume of 300 K (`run.py SYSTEM
nvt --temperature`; 35 ps of paracetamol, 20 of quartz, 8 of water, the first 20, 8 and
5 ps not used). A longer bond: one atom of a state at 300 K moved away from its
nearest neighbour. A missing hydrogen is taken out of such a state. Ice is
proton-ordered ice Ic of 64 molecules at 0.92 g/cm³, with normal displacements of
molecules by 0.05 Å about its lattice; no run of ice. Going back does **not** see it:
the model retraces it better than the liquid. How wrong its forecasts of ice are was not
measured."""


def draw(results: dict[str, dict[str, Any]]) -> Figure:
    """Return the ROC of every kind of state, one panel per system."""
    size = (len(results) * PANEL_INCHES[0], PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        for number, (kind, row) in enumerate(result["rows"].items()):
            axes.plot(
                row["curve"]["false"],
                row["curve"]["found"],
                color=f"C{number}",
                lw=1.3,
                ls="-" if kind.endswith(" K") else "--",
                label=kind,
            )
        axes.set(xscale="log", ylim=(-0.02, 1.02), title=name)
        axes.set(xlabel="share of false alarms", ylabel="share found")
        finish(axes)
        # Below, where no curve runs.
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncol": 2}
        axes.legend(**(legend_style() | place))
    return figure


def found_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return one row for each kind of state."""
    return [
        [
            f"{name}, {kind}",
            *(f"{row['area'][key]:.3f}" for key in ("atom", "system", "both")),
            f"{100 * row['found']:.0f} %",
            f"{100 * row['by_default']:.0f} %",
            *(f"{row['ratio'][key]:.3g}" for key in ("atom", "system")),
        ]
        for name, result in results.items()
        for kind, row in result["rows"].items()
    ]


def stated_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the rates of false alarms of each system."""
    return [
        [
            f"{name}, {result['number']} looks",
            *(f"{share:.2g}" for share in result["stated"].values()),
            *(
                f"{result['limits'][key]:.3g} ({result['largest'][key]:.3g})"
                for key in ("atom", "system")
            ),
        ]
        for name, result in results.items()
    ]


def truth_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return correlations with the true error of each system."""
    return [
        [
            f"{name}, {kind}, {result['truth']['number']} pairs",
            *(
                f"{result['truth'][kind][key]:.2f}"
                for key in ("atom", "system", "ratio")
            ),
        ]
        for name, result in results.items()
        for kind in ("positions", "velocities")
    ]


def page(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the sections of the page."""
    areas = ["area: atom", "system", "both"]
    shares = ["found at 1e-3", "as it comes", "ratio: atom", "system"]
    rates = [f"asked for {rate}" for rate in next(iter(results.values()))["stated"]]
    limits = ["limit (largest): atom", "system"]
    machines = "\n".join(
        f"- {name}: `{one['model']}`; {describe_machine(one['machine'])}"
        for name, one in results.items()
    )
    return [
        TITLE,
        machines,
        FOUND,
        table(["states", *areas, *shares], found_rows(results)),
        HOW,
        "![Shares found against false alarms](reversal_roc.png)",
        STATED,
        table(["states at 300 K", *rates, *limits], stated_rows(results)),
        TRUTH,
        table(["error", "atoms", "systems", "ratio"], truth_rows(results)),
    ]
