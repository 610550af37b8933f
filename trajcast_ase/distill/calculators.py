"""Calculators as users name them, made anew in each process, and tried at once."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators import calculator as ase_calculators

CalculatorSource = str | Callable[[], Any] | Any
"""A name, a function that makes a calculator, or a calculator."""
TBLITE = "tblite"


class CalculatorError(ValueError):
    """A calculator that cannot be had, or does not serve; the text says why."""


@dataclass(frozen=True, slots=True)
class CalculatorSpec:
    """What makes a calculator.

    Attributes
    ----------
    source : str, function or calculator
        One that ASE names (``emt``), ``tblite:GFN2-xTB``, ``package.module:callable``,
        a function without arguments, or a calculator.
    options : dict
        Keyword arguments, for names only.
    """

    source: CalculatorSource
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in words, with the options."""
        source = self.source
        text = source if isinstance(source, str) else _name_of(source)
        given = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{text} ({given})" if given else text

    @property
    def is_shared(self) -> bool:
        """Whether it is one calculator, which only one process can use."""
        made = not isinstance(self.source, type)
        return made and hasattr(self.source, "get_potential_energy")

    def make(self) -> Any:
        """Return a calculator.

        Raises
        ------
        CalculatorError
            It cannot be imported, or not be made with these options.
        """
        if self.is_shared:
            return self.source
        maker = self._maker() if isinstance(self.source, str) else self.source
        try:
            return maker(**self.options)
        except Exception as error:
            raise CalculatorError(
                f"the calculator {self.name} cannot be made "
                f"({type(error).__name__}: {error}); correct its name or the options "
                "of --calculator-option"
            ) from error

    def _maker(self) -> Callable[..., Any]:
        assert isinstance(self.source, str)  # noqa: S101  checked by the caller
        module, _, attribute = self.source.partition(":")
        try:
            if module == TBLITE:
                return _tblite(attribute)
            if attribute:
                found: Callable[..., Any] = getattr(import_module(module), attribute)
                return found
            if module.lower() not in _known():
                raise CalculatorError(
                    f"ASE names no calculator {module!r}; give one that it names, such "
                    "as emt or lj, tblite:GFN2-xTB, or package.module:callable"
                )
            maker = _of_ase(module.lower())
        except (ImportError, AttributeError, ValueError) as error:
            if isinstance(error, CalculatorError):
                raise
            raise CalculatorError(
                f"the calculator {self.source} cannot be imported ({error}); install "
                "it into this environment, or correct the name "
                "(package.module:callable)"
            ) from error
        return maker


def _of_ase(name: str) -> Callable[..., Any]:
    find: Callable[..., Callable[..., Any]] = ase_calculators.get_calculator_class
    return find(name)


def _known() -> list[str]:
    """Return the calculators that ASE names; its list is not exported."""
    return list(vars(ase_calculators)["names"])


def _name_of(source: Any) -> str:
    kind = source if hasattr(source, "__qualname__") else type(source)
    return f"{kind.__module__}:{kind.__qualname__}"


def _tblite(method: str) -> Callable[..., Any]:
    try:
        maker = import_module("tblite.ase").TBLite
    except ImportError as error:
        raise CalculatorError(
            f"the calculator tblite:{method} needs tblite ({error}): pip install "
            "'trajcast-ase[tblite]'"
        ) from error

    def make(**options: Any) -> Any:
        return maker(method=method or "GFN2-xTB", **{"verbosity": 0, **options})

    return make


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return keyword arguments of ``name=value`` texts.

    Values are read as Python literals where they are such, else as text.

    Raises
    ------
    CalculatorError
        A text without ``=``, or a name twice.
    """
    options: dict[str, Any] = {}
    for one in texts:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier() or name in options:
            raise CalculatorError(
                f"--calculator-option {one!r} is no name=value, or the name is given "
                "twice; write for example sigma=3.4"
            )
        options[name] = _literal(value)
    return options


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def try_calculator(spec: CalculatorSpec, atoms: Atoms) -> None:
    """Compute energy and forces of a structure once.

    Raises
    ------
    CalculatorError
        It fails, gives no forces, or numbers that are not finite.
    """
    trial = atoms.copy()
    trial.calc = spec.make()
    for name, ask in (
        ("energy", trial.get_potential_energy),
        ("forces", trial.get_forces),
    ):
        try:
            value = np.asarray(ask(), dtype=np.float64)
        except Exception as error:
            raise CalculatorError(
                f"the calculator {spec.name} gives no {name} of the first structure, "
                f"{atoms.symbols} ({type(error).__name__}: {error}); distill needs "
                "energy and forces of every structure, so choose another calculator "
                "or correct the structure"
            ) from error
        if not np.isfinite(value).all():
            raise CalculatorError(
                f"the calculator {spec.name} gives {name} of the first structure, "
                f"{atoms.symbols}, that are not finite; look for atoms on top of each "
                "other, or choose another calculator"
            )
