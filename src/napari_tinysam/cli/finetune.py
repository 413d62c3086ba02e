"""``napari-tinysam finetune``: a model for a lab's own images."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.console import TrainingBar, counted, say
from napari_tinysam.cli.cut_training import noted
from napari_tinysam.cli.options import (
    DeviceOption,
    ModelOption,
    ModelOutputOption,
    PartlyAnnotatedOption,
    SeedOption,
    argument,
    option,
)
from napari_tinysam.errors import (
    DataError,
    FileError,
    TinySAMError,
    UsageError,
    explained,
)

if TYPE_CHECKING:
    from tinysam_training.data import DataReport, FoundEntries
    from tinysam_training.evaluation.evaluate import Evaluation
    from tinysam_training.run.held_out import Split

#: How many held-out images the table at the end is about.
_JUDGED = 6

#: Minutes kept back for the picture and the files at the end.
_MINUTES_TO_WRITE = 0.15

_WAYS = ("auto", "frozen", "lora", "whole")


def finetune(
    data: Annotated[
        Path,
        argument(
            "DATA",
            "A folder of images and their labels (cells.tif and cells_label.tif, or images/ "
            "and labels/).",
        ),
    ],
    output: ModelOutputOption,
    model: ModelOption = "default",
    held_out: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Images to judge on. Without it: those in DATA/val and DATA/test (with both, val "
            "chooses the best model and the table is about test), or a fifth of DATA.",
        ),
    ] = None,
    minutes: Annotated[
        float, option("M", "For everything, from reading to the table.")
    ] = 10.0,
    partly_annotated: PartlyAnnotatedOption = False,
    way: Annotated[
        str,
        option(
            "NAME", "frozen (the encoder stays as it is), lora or whole; auto is whole."
        ),
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Adapt a model to the annotated images in DATA.

    Ten images and ten minutes are enough. The images are checked first. Some are held out, and the
    table at the end compares the model before and after on those. Every better model is written at
    once, so an interruption loses nothing.
    """
    from napari_tinysam.files.atomic import replacing, write_text
    from napari_tinysam.inference.load import load_model
    from tinysam_training.commands import finetune as training
    from tinysam_training.data.spacing import evenly_spaced
    from tinysam_training.evaluation import before_after
    from tinysam_training.run.held_out import count_images

    begun = time.monotonic()
    if way not in _WAYS:
        raise UsageError(f"--way is one of {', '.join(_WAYS)}, not {way}.")
    if not 0 < minutes < math.inf:
        raise UsageError("--minutes is more than 0.")
    check_model_output(output)
    with explained(defects=False), noted(output):
        report, split = _read(data, held_out, not partly_annotated, seed, model)
        judged = evenly_spaced(split.reported, _JUDGED)

        def judge(model: str | Path) -> Evaluation:
            return before_after.judge(load_model(model, device=device), judged)

        # Judging the start first tells how long judging the result will take on this machine.
        say("Judging the start.")
        judging = time.monotonic()
        before = judge(model)
        reserve = (time.monotonic() - judging) / 60 + _MINUTES_TO_WRITE
        left = max(minutes - (time.monotonic() - begun) / 60, 0.1)
        with TrainingBar() as bar:
            try:
                result = training.finetune(
                    split.train,
                    split.choosing,
                    output,
                    training.FinetuneSettings(
                        model=model,
                        way=training.DEFAULT_WAY if way == "auto" else way,  # type: ignore[arg-type]
                        minutes=left,
                        device=device,
                        seed=seed,
                    ),
                    fingerprint=report.fingerprint,
                    metadata=split.notes,
                    reserve=min(reserve, 0.5 * left),
                    resume=resume,
                    on_message=bar.say,
                    on_step=bar.step,
                )
            except KeyboardInterrupt:
                if bar.training is not None and bar.training.best.get("step"):
                    bar.say(f"The best model so far is in {output}.")
                raise
        shortness = result.outcome.shortness
        if not result.better:
            raise TinySAMError(
                "No model was better than the start on the held-out images, so none was "
                f"written. {shortness or 'More images, or more --minutes, may help.'}"
            )
        say("Judging the result.")
        comparison = before_after.Comparison(
            before, judge(output), split.caveat, count_images(judged)
        )
        folder = training.run_folder_of(output)
        table = comparison.table()
        write_text(folder / "before_after.md", table)
        with replacing(folder / "before_after.png") as file:
            file.write(before_after.draw_comparison(comparison, judged))
    lines = [
        f"{output}: {counted(result.outcome.steps, 'step')}, best after "
        f"{result.outcome.best['step']:.0f}, {(time.monotonic() - begun) / 60:.1f} minutes in all",
        *([shortness] if shortness else []),
        f"\n{table}\n",
        f"{folder / 'before_after.png'}: pictures; the curves are in the same folder",
        f"Use it: napari-tinysam segment IMAGE --model {output} …, or choose the file in the "
        "dock's settings.",
    ]
    typer.echo("\n".join(lines))


def check_model_output(path: Path) -> None:
    """Refuse a file that no model can be written to, before the slow part.

    Raises
    ------
    FileError
        If it does not end in .safetensors, or cannot be written.
    """
    from napari_tinysam.files.writing import check_output

    check_output(path, (".safetensors",))
    # What writes weights looks at the suffix as it is.
    if path.suffix != ".safetensors":
        raise FileError(f"{path} should end in .safetensors.")


def _read(
    data: Path, held_out: Path | None, complete: bool, seed: int, model: str
) -> tuple[DataReport, Split]:
    """Find and check the images, and decide what each is for."""
    from tinysam_training.data import FoundEntries, check_data, find_pairs
    from tinysam_training.run.held_out import split_images
    from tinysam_training.run.seen import Seen

    def part(name: str) -> FoundEntries:
        # No such sub-folder. Any other trouble shows with the training images.
        with suppress(DataError):
            return find_pairs(data, name, complete)
        return FoundEntries()

    val = part("val")
    test = part("test") if held_out is None else find_pairs(held_out, None, complete)
    is_split = bool(val) or (bool(test) and held_out is None)
    train = find_pairs(data, "train" if is_split else None, complete)
    report = check_data(train, val + test)
    say(report.text())
    if report.refused:
        raise TinySAMError(report.refused)
    chosen = {id(entry) for entry in val}
    split = split_images(
        report.keyed(report.usable_train),
        report.keyed(entry for entry in report.usable_val if id(entry) in chosen),
        report.keyed(entry for entry in report.usable_val if id(entry) not in chosen),
        seed,
        Seen.by(model),
    )
    say(split.text())
    return report, split
