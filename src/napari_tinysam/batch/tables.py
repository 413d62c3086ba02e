"""Tables of objects: position, area, intensity and score of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.batch.measuring import measured
from napari_tinysam.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.everything import Labelling, Proposals

#: Columns before those of the intensities.
_COLUMNS = (
    "label",
    "area",
    "x0",
    "y0",
    "x1",
    "y1",
    "centroid_x",
    "centroid_y",
    "score",
    "stability",
    "found_by",
)


@dataclass(eq=False)
class ObjectTable:
    """The objects in all planes of a file, as rows.

    Parameters
    ----------
    axes : str
        Letters of the stack's own axes; each has a column, before all others.
    """

    axes: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    _by_plane: dict[tuple[int, ...], list[dict[str, Any]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def add(
        self,
        index: tuple[int, ...],
        found: Labelling,
        proposals: Proposals,
        pixels: Any,
    ) -> None:
        """Add the objects of a plane.

        Parameters
        ----------
        index : tuple of int
            Of the plane, one for each of `axes`.
        found : Labelling
        proposals : Proposals
            From which `found` was made.
        pixels : array-like, (H, W) or (H, W, C)
            The plane as it is in the file, read in blocks; intensities are measured here.
        """
        if not found.numbers:
            return
        for row in self.add_labels(index, found.labels, pixels):
            proposal = proposals[found.numbers[row["label"] - 1]]
            row["score"] = _rounded(proposal.score)
            row["stability"] = _rounded(proposal.stability)
            row["found_by"] = proposal.source

    def add_labels(
        self,
        index: tuple[int, ...],
        labels: npt.NDArray[np.integer[Any]],
        pixels: Any,
    ) -> list[dict[str, Any]]:
        """Add the objects of a plane from their labels alone.

        Parameters
        ----------
        index, pixels
            As for `add`.
        labels : ndarray of int, (H, W)

        Returns
        -------
        list of dict
            The new rows, without scores and without what found the objects.
        """
        found = measured(labels, pixels)
        plane = dict(zip(self.column_names, index, strict=True))
        channels = found.means.shape[1]
        added: list[dict[str, Any]] = []
        for row, label in enumerate(found.labels.tolist()):
            values: dict[str, Any] = {
                **plane,
                "label": label,
                "area": int(found.areas[row]),
                # As everywhere here: x before y, the last pixel inclusive.
                **dict(
                    zip(
                        ("x0", "y0", "x1", "y1"), found.boxes[row].tolist(), strict=True
                    )
                ),
                "centroid_x": _rounded(found.centres[row, 0]),
                "centroid_y": _rounded(found.centres[row, 1]),
            }
            for channel in range(channels):
                one = "intensity_mean"
                shown = one if channels == 1 else f"{one}_{channel}"
                values[shown] = _rounded(found.means[row, channel])
            added.append(values)
        self.rows += added
        return added

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that tell the plane; unnamed axes are numbered."""
        names = []
        for number, axis in enumerate(self.axes):
            named = axis not in "QI" and self.axes.count(axis) == 1
            names.append(axis.lower() if named else f"plane_{number}")
        return names

    def rows_of(self, index: tuple[int, ...]) -> list[dict[str, Any]]:
        """Return the rows of one plane."""
        if not index:
            return self.rows
        if not self._by_plane:
            for row in self.rows:
                place = tuple(row[name] for name in self.column_names)
                self._by_plane.setdefault(place, []).append(row)
        return self._by_plane.get(index, [])

    @classmethod
    def read(cls, axes: str, path: Path) -> ObjectTable:
        """Read what was written in one of `TABLE_FORMS`, which the suffix tells.

        Raises
        ------
        FileError
            If the file is not such a table.
        """
        rows_of = _rows_of_parquet if path.suffix == ".parquet" else _rows_of_csv
        try:
            rows = rows_of(path)
            table = cls(axes, rows)
            for row in rows:
                place = [row[name] for name in table.column_names]
                if not all(isinstance(n, int) for n in (row["label"], *place)):
                    raise ValueError(row)
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise FileError(
                f"{path} is not the table of this image; move it away."
            ) from error
        return table

    @property
    def header(self) -> list[str]:
        """Names of all columns; there are some even without rows."""
        header = [*self.column_names, *_COLUMNS]
        for row in self.rows:
            header += [name for name in row if name not in header]
        return header

    def to_csv(self) -> bytes:
        """Return the table as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.header, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode()

    def to_parquet(self) -> bytes:
        """Return the table as Parquet; values that a row lacks are null."""
        import pyarrow
        from pyarrow import parquet

        columns = {name: [row.get(name) for row in self.rows] for name in self.header}
        content = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), content)
        return content.getvalue()


#: By the word on the command line, which is the suffix of the file as well.
TABLE_FORMS: dict[str, Callable[[ObjectTable], bytes]] = {
    "csv": ObjectTable.to_csv,
    "parquet": ObjectTable.to_parquet,
}


def _rows_of_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [
            {name: _value(text) for name, text in row.items() if text != ""}
            for row in csv.DictReader(file)
        ]


def _rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return [
        {name: value for name, value in row.items() if value is not None}
        for row in parquet.read_table(path).to_pylist()
    ]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _rounded(value: Any) -> float:
    """Round to six significant digits, the precision of the measurements."""
    return float(f"{float(np.real(value)):.6g}")
