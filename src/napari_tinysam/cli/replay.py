"""``napari-tinysam replay``: labels are made again from how they came to be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_tinysam.cli.console import columns, counted, note, progress_bar
from napari_tinysam.cli.loading import load_predictor
from napari_tinysam.cli.options import (
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    argument,
    option,
)
from napari_tinysam.errors import UsageError, explained

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.journal.provenance import Provenance
    from napari_tinysam.replay.again import Replayed
    from napari_tinysam.replay.comparison import Comparison


def replay(
    provenance: Annotated[
        Path,
        argument(
            "PROVENANCE",
            "What the plugin wrote beside the labels: NAME_provenance.json.",
        ),
    ],
    image: Annotated[Path, argument("IMAGE", "The image that was labelled.")],
    output: Annotated[
        Path | None,
        option(
            "FILE",
            "Labels to write: .tif. An existing file is replaced.",
            "--output",
            "-o",
        ),
    ] = None,
    model: Annotated[
        str | None,
        option("NAME|FILE", "Another model than that of the session."),
    ] = None,
    table: Annotated[
        Path | None, option("FILE", "Also write a row for each object: .csv.")
    ] = None,
    as_training: Annotated[
        Path | None,
        option(
            "FOLDER",
            "Write image, labels and prompts as data for 'napari-tinysam finetune'.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Make the labels of IMAGE again by running the prompts that led to them.

    With the same model on the same computer the labels are the same, pixel by pixel. With another
    model (--model), the table tells how far each object agrees with that of the session. What no
    model predicts (painting, objects of other programs, automatic runs, followed planes) is put
    from the pixels that were kept.
    """
    from napari_tinysam.files.writing import TIFF_SUFFIXES, check_output
    from napari_tinysam.journal.provenance_file import read_provenance
    from napari_tinysam.replay.as_training import write_training_data
    from napari_tinysam.replay.image import ReplayedImage

    begun = time.perf_counter()
    if output is None and table is None and as_training is None:
        raise UsageError("Say what to write: -o labels.tif, --table or --as-training.")
    for path, suffixes in ((output, TIFF_SUFFIXES), (table, (".csv",))):
        if path is not None:
            check_output(path, suffixes)
            if path.resolve() in (image.resolve(), provenance.resolve()):
                raise UsageError(f"The output would replace {path} itself.")
    told = read_provenance(provenance)
    opened = ReplayedImage.open(image, told.about.image)
    if as_training is not None:
        written = write_training_data(told, opened, told.labels, as_training)
        what = counted(len(written), "plane")
        typer.echo(f"{as_training}: {what} with {counted(len(told.objects), 'object')}")
        if output is None and table is None:
            return
    with explained(defects=False):
        chosen = _Models(told, model, device, precision, threads)
        made = _replayed(told, opened, chosen.of)
    compared = _compared(told, made)
    if output is not None:
        _write_labels(output, told, made)
    if table is not None:
        _write_table(table, compared)
    seconds = time.perf_counter() - begun
    typer.echo(_report(output or table, told, made, compared, chosen, seconds))
    for remark in made.remarks:
        note(remark)


class _Models:
    """The models that predict again: those of the session, or another one."""

    def __init__(
        self,
        told: Provenance,
        other: str | None,
        device: str,
        precision: str,
        threads: int,
    ) -> None:
        self._other = other
        self._load: Callable[[str], Predictor] = lambda name: load_predictor(
            name, device, precision, threads
        )
        self._names = {
            f"{each['name']} {each['id']}": str(each["name"]) for each in told.models
        }
        self._loaded: dict[str, Predictor] = {}
        self._remarked: set[str] = set()

    def of(self, model: str) -> Predictor:
        """Return what predicts in the place of a model of the session, "name hash"."""
        name = self._other or self._names.get(model) or model.rpartition(" ")[0]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        found = self._loaded[name]
        self._remark(model, name, found)
        return found

    def _remark(self, model: str, name: str, found: Predictor) -> None:
        """Say once if a model is not the one of the session."""
        from napari_tinysam.journal.provenance import same_weights

        same = self._other is not None or model.endswith(f" {found.model_id}")
        if same or name in self._remarked:
            return
        self._remarked.add(name)
        if same_weights(model, found.model_id):
            what = f"{found.runtime_name} runs the model {name} here, other than in the session"
            note(f"{what}: masks may differ by single pixels.")
        else:
            note(
                f"The model {name} has other weights than in the session: masks may differ."
            )

    @property
    def words(self) -> str:
        """The models, and what runs them."""
        return ", ".join(
            f"model {each.name}, {each.runtime_name}" for each in self._loaded.values()
        )


def _replayed(
    told: Provenance, opened: object, of: Callable[[str], Predictor]
) -> Replayed:
    from napari_tinysam.replay.again import replay as again

    with progress_bar(total=len(told.actions), desc="actions") as bar:
        return again(
            told,
            opened,  # type: ignore[arg-type]
            of,
            on_progress=lambda done, total: bar.update(done - bar.n),
        )


def _compared(told: Provenance, made: Replayed) -> Comparison:
    from napari_tinysam.replay.comparison import compare

    return compare(told, made)


def _write_labels(path: Path, told: Provenance, made: Replayed) -> None:
    from napari_tinysam.files.writing import (
        label_axes,
        unsigned_labels,
        write_label_stack,
    )

    labels = made.labels.to_array()
    for axis in sorted(told.shared_axes, reverse=True):
        labels = labels.take(0, axis)
    write_label_stack(path, unsigned_labels(labels), label_axes(labels.ndim))


def _write_table(path: Path, compared: Comparison) -> None:
    from napari_tinysam.files.atomic import replacing

    with replacing(path) as file:
        file.write(compared.to_csv())


def _report(
    path: Path | None,
    told: Provenance,
    made: Replayed,
    compared: Comparison,
    models: _Models,
    seconds: float,
) -> str:
    """Say what came out: in a line if it is the same, in a table if it is not."""
    count = counted(len(compared.objects), "object")
    again = counted(len(compared.predicted), "mask")
    head = f"{path}: {count}, {again} predicted again"
    head += f", {models.words}" if models.words else ""
    lines = [f"{head}, {seconds:.1f} s"]
    if compared.identical:
        lines.append("The labels are the same as those of the session, pixel by pixel.")
        return "\n".join(lines)
    rows = [("origin", "objects", "mean IoU", "least IoU")]
    for origin, number, mean, least in compared.by_origin():
        rows.append((origin, f"{number:,}", f"{mean:.3f}", f"{least:.3f}"))
    if compared.predicted:
        least = min(each.iou for each in compared.predicted)
        total = f"{len(compared.predicted):,}"
        rows.append(("all", total, f"{compared.mean:.3f}", f"{least:.3f}"))
    lines.append("The labels differ from those of the session:")
    lines.append(columns(rows))
    if made.refused:
        lost = ", ".join(str(each) for each in made.refused)
        lines.append(f"Without a free pixel this time: {lost}.")
    return "\n".join(lines)
