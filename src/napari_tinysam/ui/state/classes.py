"""Classes of objects: their names and colours, and which object has which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Labels

#: Colours of new classes (Okabe and Ito), which colour-blind eyes tell apart.
COLOURS = (
    *("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00"),
    *("#cc79a7", "#999999", "#ffffff"),
)

#: A digit key stands for each class.
MOST = 9


@dataclass(eq=False)
class ObjectClass:
    """A class of objects. Objects refer to it, so it can be renamed while it is in use.

    Parameters
    ----------
    name : str
    colour : str
        As ``#rrggbb``.
    """

    name: str
    colour: str

    def to_json(self) -> dict[str, str]:
        """Return what is remembered of it."""
        return {"name": self.name, "colour": self.colour}


#: The class of each object that has one, by its id.
ClassOf = MutableMapping[int, ObjectClass]


def names_of(classes: Mapping[int, ObjectClass | None]) -> dict[str, str]:
    """Return the names of objects' classes by their ids, as JSON holds them; "" for none."""
    return {
        str(label): "" if each is None else each.name for label, each in classes.items()
    }


def renamed(name: str, renames: Iterable[tuple[str, str]]) -> str:
    """Return what a class is called after it was renamed from old to new names, one by one."""
    for old, new in renames:
        name = new if name == old else name
    return name


@dataclass(frozen=True, eq=False)
class ClassEdit:
    """Objects got other classes; an edit that can be undone.

    Parameters
    ----------
    layer : napari.layers.Labels
    classes : mapping of int to ObjectClass
        Of the layer's objects; changed in place.
    before, after : mapping of int to (ObjectClass or None)
        Of the objects that it concerns; None: no class.
    """

    layer: Labels
    classes: ClassOf
    before: Mapping[int, ObjectClass | None]
    after: Mapping[int, ObjectClass | None]

    @property
    def nbytes(self) -> int:
        """Bytes it keeps, roughly."""
        return 200 * len(self.after)

    @property
    def told(self) -> dict[str, dict[str, str]]:
        """What a journal says of it: the classes' names, by id; "" for none."""
        return {"classes": names_of(self.after), "were": names_of(self.before)}

    def apply(self) -> bool:
        """Give the new classes; return whether anything changed."""
        return self._set(self.after)

    def revert(self) -> bool:
        """Give the old classes again; return whether anything changed."""
        return self._set(self.before)

    def _set(self, wanted: Mapping[int, ObjectClass | None]) -> bool:
        changed = any(
            self.classes.get(label) is not new for label, new in wanted.items()
        )
        for label, new in wanted.items():
            if new is None:
                self.classes.pop(label, None)
            else:
                self.classes[label] = new
        return changed
