"""The command ``napari-tinysam``: segment a file, list the models, try the demo.

Nothing heavy is imported at module level: torch comes when a model is loaded, and napari only when
the demo opens a window.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from napari_tinysam.cli_errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from napari_tinysam.checkpoints import Checkpoint

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
    try:
        code = app(args=arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except (
        OSError
    ) as error:  # of stdout: files are taken care of where they are written
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # or Python complains at exit
        code = _FAILED
        if not isinstance(error, BrokenPipeError):  # "| head" has read enough
            _complain(f"{error.strerror or error}.", code)
    except MemoryError:
        code = _complain("There is not enough memory.", _FAILED)
    except _CommandLineError as error:
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        code = _complain(f"{message}. See napari-tinysam --help.", _USAGE)
    except UsageError as error:
        code = _complain(str(error), _USAGE)
    except CommandError as error:
        code = _complain(str(error), _FAILED)
    if code == _INTERRUPTED:
        _note("Stopped.")
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> int:
    _note(f"Error: {message}")
    return code


def _note(message: str) -> None:
    typer.echo(" ".join(message.split()), err=True)


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


# ---------------------------------------------------------------- segment

ImageArgument = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE", help="TIFF, OME-TIFF, NPY, PNG or JPEG.", show_default=False
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Labels to write: .tif, .png or .npy. A file that exists is replaced.",
        show_default=False,
    ),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option(metavar="x,y", help="A pixel on the object. Repeatable."),
]
NegativeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="x,y", help="A pixel beside the object. Repeatable."),
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(metavar="x0,y0,x1,y1", help="A box around one object. Repeatable."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="A model (see 'napari-tinysam models') or a checkpoint file.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="Which channel, from 0; two or three (2,0,1) are shown to the model as red, "
        "green and blue. Without it colours, or the first channel.",
    ),
]
PlaneOption = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help="Which plane of a stack, from 0; one number for each of its axes (3,0). "
        "Without it the first.",
    ),
]
OverlayOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write a PNG of the image, outlines and prompts."
    ),
]


@app.command(short_help="Write the objects at points and in boxes as labels.")
def segment(
    image: ImageArgument,
    output: OutputOption,
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    model: ModelOption = "default",
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    overlay: OverlayOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Segment objects in IMAGE by points and boxes and write them as labels.

    Coordinates are pixels: x to the right, y down, the centre of the first pixel is 0,0.

    Without boxes, all points are about one object. Each box is an object of its own. With one box,
    all points refine its object. With several boxes, a point refines the smallest box that contains
    it, and the points outside all boxes make one further object.

    Labels are numbered from 1: first the boxes in their order, then the object that has points
    only. Where two objects claim a pixel, the one with the lower number has it.
    """
    from napari_tinysam.cli_segment import Request, segment_plane

    started = time.perf_counter()
    source, objects = Request(
        image=image,
        output=output,
        overlay=overlay,
        point=point or (),
        negative=negative or (),
        box=box or (),
        channel=channel,
        plane=plane,
    ).read()
    for note in source.notes:
        _note(note)
    result = segment_plane(
        source.pixels,
        source.options,
        objects,
        model=model,
        device=device,
        progress=_progress(),
    )
    result.write_labels(output)
    if overlay is not None:
        result.write_overlay(overlay, source.pixels, source.options)
    typer.echo(result.summary(str(output), time.perf_counter() - started))
    for warning in result.warnings:
        _note(warning)


def _progress() -> Callable[[int, int], None] | None:
    """Download progress for somebody who watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        percent = f" {100 * done // total} %" if total else ""
        end = "\n" if 0 < total <= done else ""
        text = f"\rDownloading: {done / 1e6:.0f} MB{percent}{end}"
        typer.echo(text, nl=False, err=True)

    return show


# ---------------------------------------------------------------- models


@app.command(short_help="List the models and where they are.")
def models() -> None:
    """List the models, where they are and what may be done with them."""
    from napari_tinysam.checkpoints import REGISTRY

    rows = [("NAME", "TITLE", "SIZE", "LICENCE", "WHERE")]
    for name, checkpoint in REGISTRY.items():
        size, where = _whereabouts(name, checkpoint)
        megabytes = f"{size / 1e6:.0f} MB" if size else "?"
        rows.append((name, checkpoint.title, megabytes, checkpoint.licence, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _whereabouts(name: str, checkpoint: Checkpoint) -> tuple[int | None, str]:
    """Bytes of a checkpoint, and where it is."""
    from napari_tinysam.checkpoints import fetch, is_available_offline

    if not is_available_offline(name):
        return checkpoint.size, checkpoint.url or "missing in this installation"
    path = fetch(name)
    return path.stat().st_size, str(path) if checkpoint.url else "bundled"


# ---------------------------------------------------------------- demo

FolderOption = Annotated[
    Path,
    typer.Option("--folder", "-o", metavar="FOLDER", help="Where the files go."),
]
ViewerOption = Annotated[
    bool, typer.Option("--viewer/--no-viewer", help="Open napari with the result.")
]


@app.command(short_help="Segment an example and look at the result in napari.")
def demo(
    folder: FolderOption = Path("napari-tinysam-demo"),
    model: ModelOption = "default",
    viewer: ViewerOption = True,
) -> None:
    """Segment a microscopy image that comes with scikit-image, and look at the result.

    Writes labels.tif and overlay.png, and opens napari where there is a screen.
    """
    from napari_tinysam import cli_demo
    from napari_tinysam.cli_segment import segment_plane

    started = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise CommandError(f"The folder {folder} cannot be made.") from error
    image, objects = cli_demo.image(), cli_demo.objects()
    result = segment_plane(image, {}, objects, model=model, progress=_progress())
    labels, overlay = folder / "labels.tif", folder / "overlay.png"
    result.write_labels(labels)
    result.write_overlay(overlay, image, {})
    typer.echo(result.summary(str(labels), time.perf_counter() - started))
    typer.echo(f"{overlay}: the image with outlines and prompts")
    if viewer:
        _open_viewer(image, result.labels)


def _has_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_viewer(
    image: npt.NDArray[np.float32], labels: npt.NDArray[np.integer[Any]]
) -> None:
    if not _has_screen():
        _note("There is no screen, so napari is not opened.")
        return
    try:
        from napari_tinysam.ui._demo import open_demo
    except ImportError as error:  # napari without a Qt binding
        _note(f"napari is not opened: {error}.")
        return
    open_demo(image, labels)
