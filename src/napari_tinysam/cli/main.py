"""The command ``napari-tinysam``: its commands put together, and its errors as sentences.

The modules of the commands import nothing heavy at module level: torch comes when a model is
loaded, and napari only when the demo opens a window.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from napari_tinysam.cli.adapt import adapt
from napari_tinysam.cli.auto import auto
from napari_tinysam.cli.calibrate import calibrate
from napari_tinysam.cli.console import note
from napari_tinysam.cli.demo import demo
from napari_tinysam.cli.distill import distill
from napari_tinysam.cli.evaluate import evaluate
from napari_tinysam.cli.export import export
from napari_tinysam.cli.finetune import finetune
from napari_tinysam.cli.kept import kept
from napari_tinysam.cli.models import models
from napari_tinysam.cli.prepare import prepare
from napari_tinysam.cli.quantize import quantize
from napari_tinysam.cli.replay import replay
from napari_tinysam.cli.segment import segment
from napari_tinysam.cli.track import track
from napari_tinysam.cli.train import train
from napari_tinysam.errors import TinySAMError, UsageError, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130

#: What typer raises for a command line it cannot read (its own, or click's in older versions).
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="napari-tinysam",
    help="Segment microscopy images by points and boxes.",
    epilog="Example: napari-tinysam segment cells.tif --box 20,30,80,95 -o labels.tif",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in (
    *(segment, auto, track, replay, models),
    *(evaluate, finetune, adapt, train, distill),
    *(quantize, calibrate, prepare, export, kept, demo),
):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.

    Raises
    ------
    SystemExit
        Always: 0, 2 for a command line that makes no sense, 130 after Ctrl+C, 1 for other errors.
        Errors are one sentence on stderr.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # "×" on an ASCII terminal
    # Threads of torch that wait for each other do so asleep: awake, a training beside a busy window
    # takes four times the processor time, from both. OpenMP reads it when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(args=arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:  # of stdout: the commands explain those of their files
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # or Python complains at exit
        code = _FAILED
        if not isinstance(error, BrokenPipeError):  # "| head" has read enough
            _complain(sentence(error), code)
    except MemoryError as error:
        code = _complain(sentence(error), _FAILED)
    except _CommandLineError as error:
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        code = _complain(f"{message}. See napari-tinysam --help.", _USAGE)
    except UsageError as error:
        code = _complain(str(error), _USAGE)
    except TinySAMError as error:
        code = _complain(str(error), _FAILED)
    if code == _INTERRUPTED:
        note("Stopped.")
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> int:
    note(f"Error: {message}")
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        from napari_tinysam import __version__

        typer.echo(f"napari-tinysam {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _app(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
