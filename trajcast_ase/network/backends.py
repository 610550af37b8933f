"""Which backend computes a network: the choice, and what it made ready."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from trajcast_ase.network.backend import Backend, BackendError, ReadyLayers, Reference
from trajcast_ase.network.cpu.backend import Cpp
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.triton.backend import Triton

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

logger = logging.getLogger(__name__)

BackendChoice = Literal["auto", "reference", "cpp", "triton"]
"""What configurations and command lines may name."""
REFERENCE = Reference()
BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Cpp(), Triton(), REFERENCE)
}
"""By name, the fastest first: "auto" takes the first that works, of those it may."""
Result = TypeVar("Result")


def automatic(device: torch.device) -> Backend:
    """Return the fastest backend that works; warn if a faster one fails here."""
    problems = []
    for backend in BACKENDS.values():
        if not (backend.automatic and backend.computes_on(device)):
            continue
        try:
            backend.check()
        except BackendError as error:
            problems.append(str(error))
            continue
        if problems:
            _warn(backend, "; ".join(problems))
        return backend
    raise AssertionError("the reference computes everywhere")


def checked(choice: str | Backend, device: torch.device) -> Backend:
    """Return a backend of choice.

    Raises
    ------
    ValueError
        `choice` is unknown, or the backend does not compute on `device`.
    BackendError
        It does not work on this machine.
    """
    if isinstance(choice, str) and choice not in BACKENDS:
        known = ", ".join(map(repr, BACKENDS))
        raise ValueError(f"unknown backend {choice!r}; choose 'auto' or one of {known}")
    backend = BACKENDS[choice] if isinstance(choice, str) else choice
    if not backend.computes_on(device):
        raise ValueError(
            f"the model is on {device.type}, where the backend {backend.name!r} does "
            "not compute; move it or use the backend 'reference'"
        )
    backend.check()
    return backend


class Engine:
    """The backend of a network, and the layers that it made ready.

    Those are made anew when parameters change, and where they are missing: copies and
    pickles go without.

    Attributes
    ----------
    backend : Backend
    is_automatic : bool
        Whether the reference may take its place.
    """

    backend: Backend = REFERENCE
    is_automatic: bool = False
    _layers: ReadyLayers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {key: v for key, v in vars(self).items() if key != "_layers"}

    def choose(self, choice: str | Backend, device: torch.device) -> None:
        """Take a backend for a network on `device`; see :func:`checked`."""
        chosen = automatic(device) if choice == "auto" else checked(choice, device)
        self.backend, self.is_automatic = chosen, choice == "auto"
        self._layers = None

    def on(self, device: torch.device) -> Backend:
        """Return what computes on `device`: the reference where nothing else does."""
        return self.backend if self.backend.computes_on(device) else REFERENCE

    def layers(
        self, network: Forecaster, device: torch.device, outputs: Irreps
    ) -> ReadyLayers | None:
        """Return the layers for the present parameters; None where torch computes."""
        if torch.is_grad_enabled():
            return None
        if self._layers is None or not self._layers.is_current:
            self._layers = self.on(device).layers(network, outputs)
        return self._layers

    def attempt(self, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns; if need be with the reference.

        A kernel may be the first that a compiler cannot make, or that nobody made
        before where there is none.

        Raises
        ------
        BackendError
            The backend fails and was asked for by name.
        """
        try:
            return compute()
        except BackendError as error:
            if not self.is_automatic:
                raise
            _warn(REFERENCE, str(error))
        self.backend, self._layers = REFERENCE, None
        return compute()


def _warn(backend: Backend, problem: str) -> None:
    logger.warning(
        "computing with the backend %r, ten times slower: %s", backend.name, problem
    )
