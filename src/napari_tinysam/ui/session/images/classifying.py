"""Classes of objects: made and renamed by the user, given with digit keys, shown as colours."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_tinysam.errors import sentence
from napari_tinysam.files.writing import unsigned_labels
from napari_tinysam.ui.session.images.class_files import class_table, write_classes
from napari_tinysam.ui.session.labels.edits import full_data
from napari_tinysam.ui.state.classes import (
    COLOURS,
    MOST,
    ClassEdit,
    ClassOf,
    ObjectClass,
    names_of,
    renamed,
)
from napari_tinysam.ui.state.history import Deed

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.utils.colormaps import CyclicLabelColormap

    from napari_tinysam.journal.classes import ClassesTold
    from napari_tinysam.ui.session.aside import Aside
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.image_list import ImageEntry
    from napari_tinysam.ui.state.subject import Subject

#: Labels of up to this many pixels are looked through for deleted objects: it takes 15 ms.
_LOOKED_THROUGH = 2**22

#: Of objects without a class, while others have one.
_NO_CLASS = (0.75, 0.75, 0.75, 1.0)


class Classifying:
    """Gives classes to objects of the image that is segmented.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
    aside : Aside
        Where files are written.
    notify : callable
        ``notify(level, text)``.

    Attributes
    ----------
    classes : list of ObjectClass
        In the order of their digit keys. Of the list of images, if there is one.
    renames : list of (str, str)
        Old and new names: files of other images have the old ones until they are saved.
    coloured : bool
        Whether objects are shown in the colours of their classes.
    changed : Signal
        Emitted when classes were added, renamed, recoloured or removed.
    """

    changed = Signal()

    def __init__(
        self, subject: Subject, labelling: Labeller, aside: Aside, notify: Notify
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._aside = aside
        self._notify = notify
        self._of: weakref.WeakKeyDictionary[Labels, ClassOf] = (
            weakref.WeakKeyDictionary()
        )
        self._own_colours: weakref.WeakKeyDictionary[
            Labels, CyclicLabelColormap | DirectLabelColormap
        ] = weakref.WeakKeyDictionary()
        self._shown: tuple[object, ...] = ()
        self._found: tuple[object, set[int]] = (None, set())
        self.classes: list[ObjectClass] = []
        self.renames: list[tuple[str, str]] = []
        self.coloured = True
        #: Called when the digits begin to stand for classes, or stop.
        self.on_digits: Callable[[bool], None] = lambda on: None
        subject.changed.connect(self.show)
        labelling.recording.classes_of = self.names

    def close(self) -> None:
        """Stop following the session."""
        self._subject.changed.disconnect(self.show)

    # --- which classes -------------------------------------------------------------------

    def use(self, classes: list[ObjectClass], renames: list[tuple[str, str]]) -> None:
        """Take the classes of another list; objects that have one of before keep it."""
        self.classes, self.renames = classes, renames
        self._told()

    def add(self, name: str = "") -> ObjectClass | None:
        """Add a class with a name and a colour of its own; None if there are nine."""
        if len(self.classes) >= MOST:
            self._notify("info", "There are nine classes already, one for each digit.")
            return None
        taken = {each.colour for each in self.classes}
        colour = next((each for each in COLOURS if each not in taken), COLOURS[0])
        new = ObjectClass(self._free(name or f"class {len(self.classes) + 1}"), colour)
        self.classes.append(new)
        self._told()
        return new

    def rename(self, which: ObjectClass, name: str) -> None:
        """Rename a class; its objects stay in it."""
        name = " ".join(name.split())
        if name == which.name:
            return
        if not name or name in [each.name for each in self.classes]:
            text = (
                f"There is a class “{name}” already."
                if name
                else "A class needs a name."
            )
            self._notify("warning", text)
        else:
            old, which.name = which.name, name
            self.renames.append((old, name))
            self._named(which, old)
        self._told()

    def recolour(self, which: ObjectClass, colour: str) -> None:
        """Show a class in another colour."""
        which.colour = colour
        self._told()

    def remove(self, which: ObjectClass) -> None:
        """Remove a class that no object of this image has."""
        count = self.count(which)
        if count:
            what = "1 object is" if count == 1 else f"{count} objects are"
            self._notify(
                "warning", f"{what} “{which.name}”: give them another class first."
            )
            return
        self.classes.remove(which)
        self._told()

    def _free(self, name: str) -> str:
        names = {each.name for each in self.classes}
        number = 2
        new = name
        while new in names:
            new, number = f"{name} {number}", number + 1
        return new

    # --- which object has which ----------------------------------------------------------

    def of(self, layer: Labels) -> ClassOf:
        """Return the classes of a layer's objects, by their ids."""
        return self._of.setdefault(layer, {})

    def names(self, layer: Labels) -> dict[str, str]:
        """Return the names of the classes of a layer's objects, as a journal tells them."""
        return names_of(self._of.get(layer, {}))

    def take(self, layer: Labels, named: Mapping[int, str], renames: int = 0) -> None:
        """Take classes that were read from a file; unknown ones are added to the list.

        Parameters
        ----------
        layer : napari.layers.Labels
        named : mapping of int to str
            Names of classes, by the objects' ids.
        renames : int
            So many of `renames` the file knows.
        """
        since = self.renames[renames:]
        named = {label: renamed(name, since) for label, name in named.items()}
        known = self._known(named.values())
        classes = self.of(layer)
        classes.update({k: known[v] for k, v in named.items() if v in known})
        self.show()

    def _known(self, names: Iterable[str]) -> dict[str, ObjectClass]:
        """Return all classes by name, with those of these names, which may be new."""
        known = {each.name: each for each in self.classes}
        for name in dict.fromkeys(names):
            if name and name not in known and (new := self.add(name)) is not None:
                known[name] = new
        return known

    def restore(self, layer: Labels, told: ClassesTold) -> dict[int, ClassEdit]:
        """Give a restored layer's objects their classes; return what steps changed of them."""
        self._rename_told(told)
        self.take(layer, told.named, len(self.renames))
        known = self._known(
            name
            for change in told.steps.values()
            for name in (*change.before.values(), *change.after.values())
        )
        classes = self.of(layer)
        return {
            number: ClassEdit(
                layer,
                classes,
                *(
                    {label: known.get(name) for label, name in named.items()}
                    for named in (change.before, change.after)
                ),
            )
            for number, change in told.steps.items()
        }

    def _rename_told(self, told: ClassesTold) -> None:
        """Give classes of a journal the names that they have got since, if they have none now."""
        names = {each.name for each in self.classes}
        for old in {
            *told.named.values(),
            *(
                name
                for change in told.steps.values()
                for name in (*change.before.values(), *change.after.values())
            ),
        } - names:
            if (new := renamed(old, self.renames)) in names:
                told.rename(old, new)

    def count(self, which: ObjectClass) -> int:
        """Return how many objects of the open image are in a class."""
        layer = self._labelling.target
        if layer is None:
            return 0
        there = self._there(layer)
        return sum(c is which and i in there for i, c in self.of(layer).items())

    def _there(self, layer: Labels) -> Container[int]:
        """Return which objects with a class there are: deleted ones keep theirs, for undo."""
        classes, data = self.of(layer), full_data(layer)
        if not isinstance(data, np.ndarray) or data.size > _LOOKED_THROUGH:
            return classes
        key = (layer, self._labelling.saving.version(layer), *classes)
        if self._found[0] != key:
            top = max(classes, default=0)
            there = np.zeros(top + 2, bool)
            if top:
                there[np.minimum(data, top + 1)] = True
            self._found = key, {label for label in classes if there[label]}
        return self._found[1]

    def give(self, digit: int) -> None:
        """Give the edited object, or the one under the cursor, the class of a digit; 0: none."""
        here, layer = self._subject.here, self._labelling.target
        if digit > len(self.classes) or here is None:
            return
        label = self._labelling.edited_id or self._labelling.id_at(self._subject.cursor)
        if layer is None or not label:
            self._notify("info", "Move over a committed object, then press the digit.")
            return
        new = self.classes[digit - 1] if digit else None
        classes = self.of(layer)
        edit = ClassEdit(layer, classes, {label: classes.get(label)}, {label: new})
        if not edit.apply():
            return
        image, plane = here
        state = self._subject.memory.state_of(image)
        deed = Deed("class", edit.told, (label,))
        state.change_drafts("class", plane, state.drafts(plane), None, deed, edit)
        self._labelling.saving.changed(layer)
        self._subject.changed.emit()

    def saved(self, layer: Labels, entry: ImageEntry, then: Callable[[], None]) -> None:
        """Write the classes of a layer that has just been saved beside its file.

        Parameters
        ----------
        layer : napari.layers.Labels
        entry : ImageEntry
            Whose labels they are.
        then : callable
            Called when its file knows new names, which is to be remembered.
        """
        file, classes = self._labelling.saving.file_of(layer), self.of(layer)
        data = full_data(layer)
        if file is None or not isinstance(data, np.ndarray):
            return
        if not classes and not class_table(file).exists():
            return
        labels = unsigned_labels(np.array(data))
        named = {label: each.name for label, each in classes.items()}
        names = [each.name for each in self.classes]
        image = entry.name if entry.path is None else entry.path.name
        renames = len(self.renames)

        def written(_: None) -> None:
            if entry.renames != renames:
                entry.renames = renames
                then()

        def failed(error: Exception) -> None:
            text = sentence(error, f"The classes of {image} were not saved")
            self._notify("warning", text)

        self._aside.run(
            lambda: write_classes(file, image, labels, named, names),
            written,
            failed,
        )

    def _named(self, which: ObjectClass, old: str) -> None:
        """Note that the file of the open image's classes is out of date."""
        for layer, classes in self._of.items():
            if which in classes.values():
                self._labelling.recording.renamed(layer, old, which.name)
        layer = self._labelling.target
        if layer is not None and self.of(layer):
            self._labelling.saving.changed(layer)

    # --- on the canvas -------------------------------------------------------------------

    def set_coloured(self, on: bool) -> None:
        """Show objects in the colours of their classes, or in their own."""
        self.coloured = on
        self._told()

    def show(self) -> None:
        """Colour the open image's objects, if anything about them has changed."""
        layer = self._labelling.target
        if layer is None:
            return
        classes = self.of(layer)
        wanted = {label: each.colour for label, each in classes.items()}
        now = (layer, self.coloured, *wanted.items())
        if now == self._shown:
            return
        self._shown = now
        if wanted and self.coloured:
            if layer not in self._own_colours:
                self._own_colours[layer] = layer.colormap
            layer.colormap = _colormap(wanted)
        elif (before := self._own_colours.pop(layer, None)) is not None:
            layer.colormap = before

    def _told(self) -> None:
        self.on_digits(bool(self.classes))
        self.show()
        self.changed.emit()


def _colormap(colours: Mapping[int, str]) -> DirectLabelColormap:
    from napari.utils.colormaps.standardize_color import transform_color

    table: dict[int | None, object] = {None: np.array(_NO_CLASS), 0: np.zeros(4)}
    rgba = {colour: transform_color(colour)[0] for colour in set(colours.values())}
    table |= {label: rgba[colour] for label, colour in colours.items()}
    return DirectLabelColormap(color_dict=table)
