"""The application, its commands, and how errors end: one line, nonzero exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trajcast_ase._version import __version__
from trajcast_ase.cli.demo import demo
from trajcast_ase.cli.distill import distill
from trajcast_ase.cli.ensemble import ensemble
from trajcast_ase.cli.models import import_, inspect, models, recommend
from trajcast_ase.cli.new import new
from trajcast_ase.cli.run import run
from trajcast_ase.cli.training import evaluate, train
from trajcast_ase.cli.validate import validate
from trajcast_ase.dynamics.losses import LostReplicasError

# With these the package says what is wrong with the user's input.
EXPLAINED = (
    ValueError,
    OSError,
    ImportError,
    NotImplementedError,
    FloatingPointError,
    LostReplicasError,
)
# These may also be faults of the package; every other error surely is one and keeps
# its traceback.
SUSPECT = (TypeError, RuntimeError, ArithmeticError)
# Not public in typer, which brings its own copy of click since 0.26.
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]


class _Commands(TyperGroup):
    """Commands whose errors are one line on standard error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command; a wrong use of the command line exits with 2."""
        try:
            status = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except _USAGE_ERROR as error:
            command = "trajcast" if error.ctx is None else error.ctx.command_path
            message = error.format_message().rstrip(".")
            _print_error(f"{message}; see {command} --help")
            status = error.exit_code
        if not standalone_mode:
            return status
        raise SystemExit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; bad input exits with 1."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, _USAGE_ERROR, typer.Exit, typer.Abort):
            raise
        except (*EXPLAINED, *SUSPECT) as error:
            if ctx.params.get("debug"):
                raise
            hint = (
                ""
                if isinstance(error, EXPLAINED)
                else " (trajcast --debug ... shows where)"
            )
            _print_error(_message(error) + hint)
            raise typer.Exit(1) from error


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _print_error(message: str) -> None:
    typer.secho("error: ", err=True, fg="red", nl=False)
    typer.echo(" ".join(message.split()), err=True)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"trajcast-ase {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    name="trajcast",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help; its panels cost a third of the time
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    invoke_without_command=True,
    epilog="Example: trajcast run start.xyz --model paracetamol-7fs "
    "--temperature 300 --steps 1000",
)
def trajcast(
    ctx: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Molecular dynamics in strides of 5 to 30 fs, without forces."""
    del debug  # read where errors are caught
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command(
    epilog="Example: trajcast run start.xyz --model paracetamol-7fs --temperature 300 "
    "--steps 10000 --out runs/first"
)(run)
app.command(
    epilog="Example: trajcast ensemble paracetamol-7fs start.xyz --temperature 280,300 "
    "--replicas 8 --picoseconds 100 --workers 2 --out ensembles/first"
)(ensemble)
app.command(epilog="Example: trajcast new nve-*.traj --out argon.toml")(new)
app.command(epilog="Example: trajcast train paracetamol.toml --minutes 30")(train)
app.command(epilog="Example: trajcast evaluate model.trajcast held-out.h5")(evaluate)
app.command(
    epilog="Example: trajcast distill ethanol.xyz --calculator tblite:GFN2-xTB "
    "--temperature 300 --budget 2h --out ethanol"
)(distill)
app.command(
    epilog="Example: trajcast validate rollout.traj --reference md.traj --out report"
)(validate)
app.command(epilog="Example: trajcast inspect paracetamol-7fs")(inspect)
app.command(
    "import",
    epilog="Example: trajcast import config.yaml state_dict.pt --elements H,C,N,O "
    "--horizon 7 --out published.trajcast",
)(import_)
app.command(epilog="Example: trajcast models")(models)
app.command(
    epilog="Example: trajcast recommend mine.trajcast --langevin 2000 --csvr 70 "
    "--chosen-by 'reports/mine.md' --out better.trajcast"
)(recommend)
app.command(epilog="Example: trajcast demo --out demo --picoseconds 20")(demo)


def main() -> None:
    """Run the command line of this process."""
    app()
