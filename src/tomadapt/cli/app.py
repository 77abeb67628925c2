"""The command-line application, and how errors leave it: on one line, without a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tomadapt.cli.options import on_one_line, warn

if TYPE_CHECKING:
    from tomadapt.errors import TomadaptError

app = typer.Typer(
    name="tomadapt",
    help="Label macromolecules in cryo-electron tomograms with training data from elsewhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tomadapt {version('tomadapt')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors that name a remedy are printed on one line, without a traceback."""
    from tomadapt.errors import TomadaptError

    _let_waiting_threads_sleep()
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    try:
        app()
    except TomadaptError as error:
        _exit_with(error)
    except OSError as error:
        _exit_with(_of_the_system(error))
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
            typer.echo("tomadapt: interrupted; run the same command again to go on", err=True)
        raise


INTERRUPTED = 130


def _let_waiting_threads_sleep() -> None:
    """Tell OpenMP's threads not to spin while they wait, unless the user said how they should.

    Beside other work on the same cores spinning threads take the time of those that they wait for.
    It counts only before torch is loaded, which commands do when they need it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ.update(WAITING)


WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def _exit_with(error: TomadaptError) -> NoReturn:
    typer.echo(f"tomadapt: error: {on_one_line(str(error))}", err=True)
    sys.exit(error.exit_code)


def _of_the_system(error: OSError) -> TomadaptError:
    """What the operating system refused and no module has put into better words.

    All outputs are written through :mod:`tomadapt.runs.atomic`, so that what is left is a full disk
    (temporary files, standard output) or an input.
    """
    from tomadapt.errors import InputError
    from tomadapt.runs.atomic import NO_SPACE, output_error

    name = error.filename or "standard output or a temporary file"
    if error.errno in NO_SPACE:
        return output_error(str(name), error)
    return InputError(
        f"cannot use {name}",
        expected="a readable file",
        got=error.strerror or type(error).__name__,
        remedy="check the path, its permissions and that the file is whole",
    )
