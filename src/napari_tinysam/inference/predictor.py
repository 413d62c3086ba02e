"""Images to embeddings, embeddings and prompts to masks. Stateless, thread-safe, no GUI.

An image is encoded once (about a second on a laptop). After that every prompt takes a fraction of
that. A predictor keeps no state: the embedding holds all that `Predictor.predict` needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.dense_prompts import CLICKED, draw_prompts, first_guess
from napari_tinysam.frame import CELL, FRAME, LOGIT, LOGITS
from napari_tinysam.image import as_rgb, to_eight_bits
from napari_tinysam.inference.box_fit import box_fit
from napari_tinysam.inference.grouping import alike
from napari_tinysam.inference.kept import Seen, arrays_of, key_of, restored
from napari_tinysam.inference.predictions import Embedding, Masks
from napari_tinysam.inference.resize import resize_longest_side
from napari_tinysam.inference.runtime import KeepsFeatures, ShowsFeatures
from napari_tinysam.inference.windows import (
    SIDES,
    in_logits,
    reaches_border,
    wanted_boxes,
    window_around,
)
from napari_tinysam.objects.confirmation import mean_confirmation
from napari_tinysam.objects.finding import object_regions, usual_side
from napari_tinysam.objects.maps import means_of_squares

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.kept import KeptEmbeddings
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.runtime import Runtime
    from napari_tinysam.inference.runtime.protocol import DecodedPrompts
    from napari_tinysam.prompts import Prompts

    #: Points, labels, boxes and masks of N objects in pixels of the frame, as for `Runtime.decode`.
    _Given = tuple[
        npt.NDArray[Any] | None,
        npt.NDArray[Any] | None,
        npt.NDArray[Any] | None,
        npt.NDArray[Any] | None,
    ]

#: If the usual object has at least this many pixels of the frame along a side, the image is also
#: viewed at half the size.
LARGE = 80.0

#: Objects whose prompts are drawn at once over the whole frame, 256 KiB each.
_DRAWN_AT_ONCE = 16

#: Logit outside the window in which an object was decoded.
OUTSIDE = -CLICKED


class Predictor:
    """A loaded model. Get one from `load_model`.

    Parameters
    ----------
    runtime : Runtime
        Runs the network.
    name : str
        Registry name or file of the checkpoint, for messages.
    model_id : str
        Identifies weights and preprocessing; embeddings of other models are refused.
    notes : mapping of str to str, optional
        Notes from the checkpoint file.
    windows : bool
        Whether a model with dense prompts decodes small objects in windows of the frame
        (`napari_tinysam.inference.windows`), which takes a fraction of the time. Other models
        always read the whole frame, as Segment Anything.

    Attributes
    ----------
    kept : KeptEmbeddings or None
        Where `encode` looks for what it has computed before, and keeps it. None at first: nowhere.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        name: str,
        model_id: str,
        notes: Mapping[str, str] | None = None,
        windows: bool = True,
    ) -> None:
        self._runtime = runtime
        self.name = name
        self.model_id = model_id
        self.notes = dict(notes or {})
        self.kept: KeptEmbeddings | None = None
        self._least_side = SIDES[0] if windows else SIDES[-1]

    def __repr__(self) -> str:
        """Return name and runtime."""
        return f"<Predictor {self.name!r}, {self._runtime.name}>"

    @property
    def runtime_name(self) -> str:
        """What runs the model, for messages: "torch on cpu, bf16"."""
        return self._runtime.name

    @property
    def has_object_head(self) -> bool:
        """Whether the model predicts objects without any prompt (`object_maps`)."""
        return self._runtime.has_object_head

    def without_windows(self) -> Predictor:
        """Return a predictor of the same model and runtime that always reads the whole frame."""
        found = Predictor(
            self._runtime,
            name=self.name,
            model_id=self.model_id,
            notes=self.notes,
            windows=False,
        )
        found.kept = self.kept
        return found

    def encode(self, image: Any, **to_rgb_options: Any) -> Embedding:
        """Encode one image plane.

        Parameters
        ----------
        image : array-like
            (H, W, 3) uint8 RGB goes to the model unchanged, as in Segment Anything's predictor.
            Anything else (gray, multichannel, RGBA, 16-bit, float, dask, zarr) goes through
            `napari_tinysam.image.to_rgb`.
        **to_rgb_options
            Keyword arguments of `napari_tinysam.image.to_rgb`: `channel`, `channel_axis`,
            `contrast_limits`, `percentiles`.

        Raises
        ------
        ValueError, TypeError
            If it is not an image; see `to_rgb`.
        """
        plane = to_eight_bits(image, **to_rgb_options)
        height, width = plane.shape[:2]
        runtime = self._runtime
        frame = resize_longest_side(plane, runtime.image_size)
        seen = self._kept_or_seen(frame)
        return Embedding(
            features=seen.features,
            original_size=(height, width),
            input_size=(frame.shape[0], frame.shape[1]),
            frame_size=runtime.image_size,
            model_id=self.model_id,
            maps=seen.maps,
            regions=seen.regions if runtime.dense_prompts else None,
        )

    def _kept_or_seen(self, frame: npt.NDArray[np.uint8]) -> Seen:
        """Find what is kept of an image, or encode it and keep it."""
        kept, runtime = self.kept, self._runtime
        if kept is None or not isinstance(runtime, KeepsFeatures):
            return self._seen(as_rgb(frame))
        key = key_of(frame, self.model_id)
        found = kept.find(key)
        if found is not None:
            with contextlib.suppress(ValueError):  # of an earlier version
                return restored(found, runtime)
        seen = self._seen(as_rgb(frame))
        kept.keep_later(key, lambda: arrays_of(seen, runtime))
        return seen

    def _seen(self, rgb: npt.NDArray[np.uint8]) -> Seen:
        features = self._runtime.encode(rgb)
        maps, regions = self._runtime.object_maps(features), None
        if maps is not None:
            maps, regions = self._confirmed(rgb, maps)
        return Seen(features, maps, regions)

    def _confirmed(
        self, rgb: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Return the object maps that agree better with their own objects, and these objects.

        An encoder sees little of an object that fills much of the frame. If objects are large, the
        image is also encoded at half the size, in a quarter of the time. The maps tell which of
        the two is better: they hold the distance of every pixel to the centre and the boundary of
        its object, which fits a whole object and does not fit pieces of it.
        """
        shown = tuple(-(-side // LOGIT) for side in rgb.shape[:2])
        valid = (shown[0], shown[1])
        coarse = means_of_squares(maps, self._runtime.image_size // LOGIT)
        regions = object_regions(coarse, valid)
        if 0 < LOGIT * usual_side(regions) < LARGE:
            return maps, regions
        half = self._runtime.maps_of_half(
            resize_longest_side(rgb, self._runtime.image_size // 2)
        )
        if half is None:
            return maps, regions
        of_half = object_regions(half, valid)
        if mean_confirmation(of_half, half) > mean_confirmation(regions, coarse):
            return half, of_half
        return maps, regions

    def predict(
        self,
        embedding: Embedding,
        prompts: Prompts,
        *,
        least_score: float = -np.inf,
        exact: bool = True,
    ) -> Masks:
        """Predict three masks for each object.

        Parameters
        ----------
        embedding : Embedding
            From `encode` of this predictor.
        prompts : Prompts
            N objects, in pixels of the image. Objects may have different kinds and numbers of
            prompts; each is decoded as if it were alone.
        least_score : float
            Objects without a candidate of a higher score are not upscaled: their logits are minus
            infinity. Saves a third of the time.
        exact : bool
            False lets the runtime decode in half precision where that is faster, for searches that
            keep the best of many masks.

        Returns
        -------
        Masks
            (N, 3) candidates. Outside an object's window logits are `OUTSIDE`. With dense prompts,
            scores for boxes alone are lower where a mask does not fill its box (`box_fit`).

        Raises
        ------
        ValueError
            If the embedding is another model's.
        """
        self._check_own(embedding)
        groups = alike(prompts)
        decoded = [
            self._answers(embedding, group, least_score=least_score, exact=exact)
            for _, group in groups
        ]
        if len(groups) == 1:  # nothing to sort: masks are not copied
            return Masks(*decoded[0], embedding.upscaler)
        logits = np.empty((len(prompts), 3, LOGITS, LOGITS), np.float32)
        scores = np.empty((len(prompts), 3), np.float32)
        for (rows, _), answers in zip(groups, decoded, strict=True):
            logits[rows], scores[rows] = answers
        return Masks(logits, scores, embedding.upscaler)

    def _answers(
        self,
        embedding: Embedding,
        group: Prompts,
        *,
        least_score: float,
        exact: bool,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Decode objects with the same kinds of prompts."""
        points, boxes = group.points, group.boxes
        if points is not None:
            points = embedding.to_frame(points)
        if boxes is not None:
            boxes = embedding.to_frame(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
        if self._runtime.dense_prompts:
            return self._in_windows(
                embedding,
                (points, group.labels, boxes, group.masks),
                least_score=least_score,
                exact=exact,
            )
        return self._runtime.decode(
            embedding.features,
            points=points,
            labels=group.labels,
            boxes=boxes,
            masks=group.masks,
            least_scores=_least_scores(len(group), least_score),
            exact=exact,
        )

    def _in_windows(
        self, embedding: Embedding, given: _Given, **how: Any
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Decode objects with drawn prompts, each in the smallest window that its answer fits."""
        points, _, boxes, masks = given
        # Other prompts come from somebody who knows more of the object than its box.
        by_box = boxes if points is None and masks is None else None
        wanted = wanted_boxes(*given, embedding.regions, embedding.region_boxes)
        chosen = [window_around(box, self._least_side) for box in wanted]
        logits = np.full((len(wanted), 3, LOGITS, LOGITS), OUTSIDE, np.float32)
        scores = np.empty((len(wanted), 3), np.float32)
        for place, side in enumerate(SIDES):
            rows = [
                i for i, window in enumerate(chosen) if window.y1 - window.y0 == side
            ]
            # Drawn prompts take as much memory as masks, so not all are drawn at once.
            step = _DRAWN_AT_ONCE * (FRAME // side) ** 2
            for part in (rows[n : n + step] for n in range(0, len(rows), step)):
                found = self._decoded(
                    embedding,
                    _rows(given, part),
                    [chosen[i] for i in part],
                    **how,
                )
                for i, planes, own in zip(part, *found, strict=True):
                    window = chosen[i]
                    if reaches_border(planes, window):
                        chosen[i] = window_around(wanted[i], SIDES[place + 1])
                        continue
                    scores[i] = own
                    # Masks that a window cuts score as well as others, as in training, so that
                    # one below the least score is not only too large for it.
                    if planes[0, 0, 0] == -np.inf:
                        logits[i] = -np.inf
                        continue
                    logits[i][in_logits(window)] = planes
                    if by_box is not None:
                        corner = (window.x0, window.y0)
                        scores[i] *= box_fit(planes, by_box[i] - np.tile(corner, 2))
        return logits, scores

    def _decoded(
        self,
        embedding: Embedding,
        given: _Given,
        windows: Sequence[Look],
        *,
        least_score: float,
        exact: bool,
    ) -> DecodedPrompts:
        """Draw the prompts of objects, and decode them in windows of one size."""
        points, labels, boxes, masks = given
        cuts = [in_logits(window)[1:] for window in windows]
        first = np.array([[window.x0, window.y0] for window in windows], np.float32)
        if masks is not None:
            masks = np.stack([m[cut] for m, cut in zip(masks, cuts, strict=True)])
        objects = embedding.regions
        if objects is not None:
            objects = np.stack([objects[cut] for cut in cuts])
        side = windows[0].y1 - windows[0].y0
        drawn = draw_prompts(
            np,
            (side // LOGIT, side // LOGIT),
            points=None if points is None else points - first[:, np.newaxis],
            labels=labels,
            boxes=None if boxes is None else boxes - np.tile(first, 2),
            masks=masks,
            objects=objects,
        )
        corners = np.asarray(first[:, ::-1] // CELL, np.intp)
        decoded = self._runtime.decode(
            embedding.features,
            points=points,
            labels=labels,
            boxes=boxes,
            masks=drawn,
            least_scores=_least_scores(len(windows), least_score),
            exact=exact,
            corners=None if side == FRAME else corners,
        )
        # In place, and only where there are logits: otherwise this takes noticeable time.
        for plane, logits in zip(first_guess(np, drawn), decoded.logits, strict=True):
            if logits[0, 0, 0] > -np.inf:
                logits += plane
        return decoded

    def object_maps(self, embedding: Embedding) -> npt.NDArray[np.float32] | None:
        """Predict where objects are, without any prompt.

        `napari_tinysam.objects.finding.segment_objects` turns the maps into labels.

        Parameters
        ----------
        embedding : Embedding
            From `encode` of this predictor.

        Returns
        -------
        numpy.ndarray or None
            (3, m, m) float32 in 0–1 over the model's frame, m being 256 or 512, as described in
            `napari_tinysam.model.object_head`. None if `has_object_head` is false.

        Raises
        ------
        ValueError
            If the embedding is another model's.
        """
        self._check_own(embedding)
        return embedding.maps

    def feature_maps(self, embedding: Embedding) -> list[npt.NDArray[np.floating]]:
        """Return what the model knows of each place of an image, to compare objects by.

        Parameters
        ----------
        embedding : Embedding
            From `encode` of this predictor.

        Returns
        -------
        list of numpy.ndarray
            (C, m, m) each, over the model's frame; see `ShowsFeatures.feature_maps`. None of a
            runtime that shows no features.

        Raises
        ------
        ValueError
            If the embedding is another model's.
        """
        self._check_own(embedding)
        if not isinstance(self._runtime, ShowsFeatures):
            return []
        return self._runtime.feature_maps(embedding.features)

    def _check_own(self, embedding: Embedding) -> None:
        if embedding.model_id != self.model_id:
            raise ValueError(
                "This embedding was made by another model. Encode the image again with "
                f"{self.name!r}."
            )


def _rows(given: _Given, rows: list[int]) -> _Given:
    points, labels, boxes, masks = (
        None if each is None else each[rows] for each in given
    )
    return points, labels, boxes, masks


def _least_scores(count: int, least: float) -> npt.NDArray[np.float32] | None:
    return np.full(count, least, np.float32) if least > -np.inf else None
