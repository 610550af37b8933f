"""What to try when a report has not passed."""

from __future__ import annotations

from collections.abc import Sequence

_TEMPERATURE = (
    "temperatures of bands or elements are off: the forecast loses energy faster than "
    "the bath returns it; train longer (a larger --budget), or try a stronger bath "
    "(--langevin 500 in another --out)"
)
_SPECTRUM = (
    "spectra differ: a shorter --horizon makes a stride easier to learn, and a weaker "
    "bath (--langevin 5000) broadens lines less"
)
_STRUCTURE = (
    "structure or diffusion differ: a larger --cutoff lets a stride see farther"
)
_BONDS = "bonds or angles differ: a shorter --horizon, or more --channels and --layers"
TRIES = (
    (("temperature",), _TEMPERATURE),
    (("spectrum",), _SPECTRUM),
    (("MSD", "distribution", "order"), _STRUCTURE),
    (("bond", "angle"), _BONDS),
)


def advice(failing: Sequence[str], limit: str, *, lost: bool = False) -> list[str]:
    """Return what to try, by the rows that fail and by what limits the training.

    Parameters
    ----------
    failing : sequence of str
        Names of observables.
    limit : "data" or "steps"
    lost : bool
        Whether runs have broken down.
    """
    found = []
    if lost:
        found.append(
            "runs break down: train longer (a larger --budget), or choose a shorter "
            "--horizon"
        )
    for words, text in TRIES:
        if any(word in name for name in failing for word in words):
            found.append(text)
    found.append(
        "data limit the training: more reference MD (a larger --budget, more "
        "--processes)"
        if limit == "data"
        else "steps or the network limit the training: a larger --budget, more "
        "--channels or a shorter --horizon"
    )
    return found
