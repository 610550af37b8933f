"""``trajcast inspect``, ``models`` and ``import``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from trajcast_ase.cli.options import Precision
from trajcast_ase.cli.thermostat import RESPONSE
from trajcast_ase.models.model_header import ModelCard, ModelHeader, read_header
from trajcast_ase.models.model_zoo import bundled_models, find_model
from trajcast_ase.thermostats.setting import ThermostatSetting


def inspect(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
) -> None:
    """Check a model file and print what it says about itself."""
    rows = list(_rows(read_header(find_model(model))))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        typer.echo(f"{key:<{width}}  {value}")


def models() -> None:
    """List the bundled models."""
    headers = [read_header(file) for file in bundled_models().values()]
    if not headers:
        typer.echo("no models are bundled with this installation")
        return
    table = Table("name", "elements", "horizon", "parameters", "licence", box=None)
    for header in headers:
        table.add_row(
            header.name,
            " ".join(header.elements),
            f"{header.horizon_fs:g} fs",
            f"{header.n_parameters:,}",
            header.licence,
        )
    Console(highlight=False).print(table)


def import_(
    config: Annotated[Path, typer.Argument(help="Published config*.yaml.")],
    state_dict: Annotated[Path, typer.Argument(help="Published state_dict*.pt.")],
    *,
    elements: Annotated[
        str, typer.Option(help="Symbols in the order of the type index, e.g. H,C,N,O.")
    ],
    horizon: Annotated[float, typer.Option(help="Time of one forecast, fs.")],
    out: Annotated[Path, typer.Option(help="Model file to write (.trajcast).")],
    dtype: Annotated[
        Precision,
        typer.Option(help="float64 keeps every digit, float32 runs faster."),
    ] = Precision.FLOAT64,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    citation: Annotated[str, typer.Option(help="What users should cite.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Convert published TrajCast weights to a model file."""
    import torch  # noqa: PLC0415  inspect and models do without

    from trajcast_ase.models.model_file import save_model  # noqa: PLC0415
    from trajcast_ase.models.published import import_published  # noqa: PLC0415

    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another --out or pass --overwrite")
    symbols = [symbol.strip() for symbol in elements.split(",") if symbol.strip()]
    network = import_published(
        config, state_dict, elements=symbols, horizon_fs=horizon
    ).to(getattr(torch, dtype))
    card = ModelCard(
        training={"imported_from": [config.name, state_dict.name]},
        licence=licence,
        citation=citation,
    )
    header = save_model(network, out, metadata=card)
    typer.echo(
        f"wrote {out}: {header.n_parameters:,} parameters, elements "
        f"{' '.join(header.elements)}, {header.horizon_fs:g} fs"
    )


def recommend(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    *,
    out: Annotated[Path, typer.Option(help="Model file to write (.trajcast).")],
    langevin: Annotated[
        float | None, typer.Option(help="Time constant, 1 / friction, fs.")
    ] = None,
    adaptive: Annotated[
        float | None,
        typer.Option(help="Time constant of the noise of AdaptiveLangevin, fs."),
    ] = None,
    response: Annotated[
        float, typer.Option(help="Of the friction of AdaptiveLangevin, fs.")
    ] = RESPONSE,
    csvr: Annotated[float | None, typer.Option(help="Time constant, fs.")] = None,
    molecular: Annotated[
        float | None, typer.Option(help="Time constant of MolecularCSVR, fs.")
    ] = None,
    chosen_by: Annotated[
        str, typer.Option(help="What validation chose this setting.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Write a model file anew with the thermostats that it recommends.

    They act in the order of the options; without any, none is recommended.
    """
    from trajcast_ase.models.model_file import with_thermostat  # noqa: PLC0415

    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another --out or pass --overwrite")
    given = {
        "Langevin": langevin,
        "AdaptiveLangevin": adaptive,
        "CSVR": csvr,
        "MolecularCSVR": molecular,
    }
    members = tuple(
        {"kind": kind, "time_constant_fs": value}
        | ({"response_fs": response} if kind == "AdaptiveLangevin" else {})
        for kind, value in given.items()
        if value is not None
    )
    setting = ThermostatSetting(members, chosen_by) if members else None
    header = with_thermostat(model, setting, out)
    typer.echo(f"wrote {out}: thermostat {header.thermostat or 'none'}")


def _rows(header: ModelHeader) -> Iterator[tuple[str, str]]:
    """Yield key and value of every entry, dictionaries flattened."""
    for key in header.__slots__:
        yield from _flat(key, getattr(header, key))


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, ThermostatSetting):
        yield key, str(value)
        yield f"{key}.chosen_by", _text(value.chosen_by)
    elif isinstance(value, Mapping):
        for inner, entry in value.items():
            yield from _flat(f"{key}.{inner}", entry)
    elif isinstance(value, tuple | list):
        if any(isinstance(entry, Mapping) for entry in value):
            for index, entry in enumerate(value):
                yield from _flat(f"{key}.{index}", entry)
        else:
            yield key, ", ".join(map(_text, value)) or "none"
    elif value is None and key.startswith(("config.", "thermostat")):
        yield key, "none"  # an option that is off, not one that nobody stated
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "unknown"
    # Digits beyond the twelfth only show binary rounding.
    return f"{value:.12g}" if isinstance(value, float) else str(value)
