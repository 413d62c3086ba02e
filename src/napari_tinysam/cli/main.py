"""The command ``napari-tinysam``: segment a file, list and judge models, try the demo.

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

from napari_tinysam.cli import auto as cli_auto
from napari_tinysam.cli import export as cli_export
from napari_tinysam.cli.options import DeviceOption, ModelOption, SeriesOption, note
from napari_tinysam.cli.running import PrecisionOption, Running, ThreadsOption
from napari_tinysam.errors import TinySAMError, UsageError, sentence

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
    series: SeriesOption = None,
    overlay: OverlayOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Segment objects in IMAGE by points and boxes and write them as labels.

    Coordinates are pixels: x to the right, y down, the centre of the first pixel is 0,0.

    Without boxes, all points are about one object. Each box is an object of its own. With one box,
    all points refine its object. With several boxes, a point refines the smallest box that contains
    it, and the points outside all boxes make one further object.

    Labels are numbered from 1: first the boxes in their order, then the object that has points
    only. Where two objects claim a pixel, the one with the lower number has it.
    """
    from napari_tinysam.cli.segment import SegmentRequest, segment_plane

    started = time.perf_counter()
    source, objects = SegmentRequest(
        image=image,
        output=output,
        overlay=overlay,
        point=point or (),
        negative=negative or (),
        box=box or (),
        channel=channel,
        plane=plane,
        series=series,
    ).read()
    for remark in source.notes:
        note(remark)
    result = segment_plane(
        source.pixels,
        source.options,
        objects,
        model=model,
        running=Running(device, precision, threads),
    )
    result.write_labels(output)
    if overlay is not None:
        result.write_overlay(overlay, source.pixels, source.options)
    typer.echo(result.summary(str(output), time.perf_counter() - started))
    for warning in result.warnings:
        note(warning)


app.command(short_help="Find all objects of many images.")(cli_auto.auto)


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


# ---------------------------------------------------------------- evaluate

JudgedModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model (see 'napari-tinysam models') or a checkpoint file.",
        show_default=False,
    ),
]
LabelledDataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A folder of images and their labels.", show_default=False
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the figures as JSON."),
]
PicturesOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Also write curves, example images and the figures of each image.",
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="train, val or test. Without it val where there is one, else all images.",
    ),
]
ObjectsOption = Annotated[
    int, typer.Option(metavar="N", help="Objects an image that get prompts; 0: all.")
]
ClicksOption = Annotated[int, typer.Option(metavar="N", help="Clicks on each.")]
ImagesOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="At most so many images of each set."),
]
PartlyOption = Annotated[
    bool,
    typer.Option(
        "--partly-annotated",
        help="Pixels without label may belong to objects that nobody drew.",
    ),
]
AutomaticOption = Annotated[
    bool,
    typer.Option(
        "--automatic/--no-automatic",
        help="Segment each image without prompts too, as Auto-segment does; it takes longest. The "
        "object head alone is always judged.",
    ),
]


@app.command(short_help="Measure how good a model is on labelled images.")
def evaluate(
    model: JudgedModelArgument,
    data: LabelledDataArgument,
    json: JsonOption = None,
    output: PicturesOption = None,
    split: SplitOption = None,
    objects: ObjectsOption = 8,
    clicks: ClicksOption = 9,
    images: ImagesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    partly_annotated: PartlyOption = False,
    automatic: AutomaticOption = True,
) -> None:
    """Compare what MODEL draws for boxes and clicks, and by itself, with the labels in DATA.

    Prompts come from the labels: the box around an object, a click at its deepest pixel, and
    further clicks where the mask is wrong. Figures are means over images, with 95 % intervals:
    IoU for a box, for a box drawn with less care, for one click (also of the best of the three
    masks) and three, the clicks needed for an IoU of 0.85 (one more than made where they do not
    suffice), the error of the predicted score, mSA and AP50 of Auto-segment (the search that the
    object head guides; without one the grid of points), and mSA of the object head alone.
    """
    from napari_tinysam.cli.evaluate import EvaluateRequest, evaluate_model

    request = EvaluateRequest(
        model=model,
        data=data,
        json=json,
        output=output,
        split=split,
        objects=objects,
        clicks=clicks,
        images=images,
        running=Running(device, precision, threads),
        partly_annotated=partly_annotated,
        automatic=automatic,
    )
    outcome = evaluate_model(request, note=note)
    typer.echo(outcome.text)
    if outcome.interrupted:
        raise KeyboardInterrupt


# ---------------------------------------------------------------- finetune, train, distill

AnnotatedDataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder of images and their labels (cells.tif and cells_label.tif, or images/ "
        "and labels/).",
        show_default=False,
    ),
]
ModelOutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The model to write, .safetensors. A file that exists is replaced.",
        show_default=False,
    ),
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Images to judge on. Without it those in DATA/val and DATA/test (with both, val "
        "chooses the best model and test is reported on), or a fifth of DATA.",
    ),
]
MinutesOption = Annotated[
    float, typer.Option(metavar="M", help="For everything, from reading to the table.")
]
WayOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="frozen (encoder as it is), lora or whole; auto is lora.",
    ),
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Of all random choices.")]
RecipeArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="default, distill, scratch, or a YAML file.",
        show_default=False,
    ),
]
DataRootOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="What the recipe's paths are relative to.",
        show_default=False,
    ),
]
RunFolderOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where log, checkpoints and models go.",
        show_default=False,
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the run that is in the folder.")
]
MaxMinutesOption = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        help="Stop after so many minutes, with a checkpoint to go on with.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Length of the whole run, instead of the recipe's."),
]
TrainingPrecisionOption = Annotated[
    str, typer.Option(metavar="NAME", help="auto, 32-true or bf16-mixed.")
]
DevicesOption = Annotated[
    int, typer.Option(metavar="N", help="Devices in each machine.")
]
NodesOption = Annotated[int, typer.Option(metavar="N", help="Machines.")]


@app.command(short_help="Adapt a model to a few annotated images.")
def finetune(
    data: AnnotatedDataArgument,
    output: ModelOutputOption,
    model: ModelOption = "default",
    held_out: HeldOutOption = None,
    minutes: MinutesOption = 10.0,
    partly_annotated: PartlyOption = False,
    way: WayOption = "auto",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Adapt a model to the annotated images in DATA: ten images and ten minutes are enough.

    The images are checked first. Some are held out, and the table at the end compares the model
    before and after on those. Whenever a better model is found it is written, so that an
    interruption loses nothing.
    """
    from napari_tinysam.cli import training as cli_training

    request = cli_training.FinetuneRequest(
        data=data,
        output=output,
        model=model,
        way=way,
        held_out=held_out,
        minutes=minutes,
        device=device,
        partly_annotated=partly_annotated,
        seed=seed,
    )
    typer.echo(cli_training.finetune(request, _say))


def _by_recipe(*, distills: bool) -> Callable[..., None]:
    """Make a command that does what a recipe says."""

    def command(
        recipe: RecipeArgument,
        data: DataRootOption,
        output: RunFolderOption,
        resume: ResumeOption = False,
        max_minutes: MaxMinutesOption = None,
        steps: StepsOption = None,
        device: DeviceOption = "auto",
        devices: DevicesOption = 1,
        nodes: NodesOption = 1,
        precision: TrainingPrecisionOption = "auto",
    ) -> None:
        from napari_tinysam.cli import training as cli_training

        request = cli_training.RecipeRequest(
            recipe=recipe,
            data=data,
            output=output,
            resume=resume,
            max_minutes=max_minutes,
            steps=steps,
            device=device,
            precision=precision,
            devices=devices,
            nodes=nodes,
            distills=distills,
        )
        if text := cli_training.run_recipe(request, _say):
            typer.echo(text)

    return command


app.command(
    "train",
    short_help="Train a model by a recipe.",
    help="Train the model that RECIPE describes.\n\n"
    "The folder gets the recipe, the log, curves, checkpoints and the best model. An interrupted "
    "run goes on with --resume.",
)(_by_recipe(distills=False))

app.command(
    "distill",
    short_help="Distil a teacher into a smaller model by a recipe.",
    help="Train the student of RECIPE to do what its teacher does (full-stage distillation).\n\n"
    "The teacher's embeddings are computed once and kept in the folder.",
)(_by_recipe(distills=True))


# ---------------------------------------------------------------- quantizing

CalibrationDataArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA...",
        help="Folders of images of the kinds that the model is for, with labels or without.",
    ),
]
QuantizedModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name or file of the model.")
]
QuantizedOutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="The model to write."),
]
CalibrationImagesOption = Annotated[
    int, typer.Option("--images", metavar="N", help="So many images are used.")
]
LayersOption = Annotated[
    Path | None,
    typer.Option(
        "--layers",
        metavar="FILE.csv",
        help="A table of all layers to write: what each costs, and how it is computed.",
    ),
]


@app.command(short_help="Make a model smaller and faster with 8-bit integers.")
def quantize(
    model: QuantizedModelArgument,
    data: CalibrationDataArgument,
    output: QuantizedOutputOption,
    images: CalibrationImagesOption = 8,
    seed: SeedOption = 0,
    layers: LayersOption = None,
) -> None:
    """Quantize MODEL with a few images of DATA: a quarter of the size, and faster without a GPU.

    The file is used like any other model. Whether its integers are faster on a computer is measured
    there at first use.
    """
    from napari_tinysam.cli import quantize as cli_quantize

    request = cli_quantize.QuantizeRequest(model, data, output, images, seed, layers)
    typer.echo(cli_quantize.quantize(request, _say))


def _say(line: str) -> None:
    """Write a line to stderr as it is: a report has columns."""
    typer.echo(line, err=True)


# ---------------------------------------------------------------- export

app.command(short_help="Write a model as files that other programs run.")(
    cli_export.export
)


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
    from napari_tinysam.cli import demo as cli_demo
    from napari_tinysam.cli.segment import segment_plane

    started = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise TinySAMError(f"The folder {folder} cannot be made.") from error
    image, objects = cli_demo.image(), cli_demo.objects()
    result = segment_plane(image, {}, objects, model=model)
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
        note("There is no screen, so napari is not opened.")
        return
    try:
        from napari_tinysam.ui.contributions.demo import open_demo
    except ImportError as error:  # napari without a Qt binding
        note(sentence(error, "napari is not opened"))
        return
    open_demo(image, labels)
