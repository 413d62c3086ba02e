"""Keeping the model, and the embedding of the shown plane, in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from enum import Enum
from typing import TYPE_CHECKING

from napari_tinysam.errors import DamagedModelError, sentence
from napari_tinysam.ui.session.embedding.loading import (
    Cancelled,
    LoadPredictor,
    Notify,
    has_faster,
    import_ahead,
    prepare_faster,
    starts_slowly,
)
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.status import Status, StatusKind

if TYPE_CHECKING:
    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

logger = logging.getLogger(__name__)

#: The first time on a computer without a GPU: torch runs the model until a separate process has
#: made the faster form that later starts open.
_FIRST_TIME = Status(
    StatusKind.LOADING_MODEL, "Reading the model, for the first time…", first_time=True
)
_LOADING = Status(StatusKind.LOADING_MODEL, "Loading the model…")
_CHANGING = Status(
    StatusKind.LOADING_MODEL, "Changing to the faster form of the model…"
)
_READING = Status(StatusKind.EMBEDDING, "Reading the image…")
_READING_SLOWLY = Status(
    StatusKind.EMBEDDING, "Reading the image, slowly this time…", first_time=True
)

#: Stands in when the chosen model cannot be loaded: it is bundled, and runs everywhere.
_FALLBACK = ("default", "auto")


class _Faster(Enum):
    """Whether there is a faster form of the loaded model."""

    NOT_NEEDED = "not needed"
    PREPARED = "being prepared"
    THERE = "there"


class Embedder:
    """Keeps a model and the embedding of the wanted plane.

    Parameters
    ----------
    inference : Inference
        Where models are loaded and images embedded.
    load : callable
        ``load(name, device, progress)`` returns a `Predictor`.
    on_status : callable
        Called with each new `Status`.
    on_ready : callable
        Called when the embedding of the wanted plane is ready.
    notify : callable
        Called with "error" and a sentence when something failed, with "warning" when the bundled
        model stands in for the chosen one.
    cache : RecentEmbeddings
        Of planes visited before.
    has_faster : callable
        Called before a plane is embedded; returns whether to load the model again first.

    Attributes
    ----------
    name, device : str
        As chosen, also while another model stands in.
    failure : str
        Why the chosen model is not the one in use; "" if it is.
    """

    def __init__(
        self,
        inference: Inference,
        load: LoadPredictor,
        *,
        on_status: Callable[[Status], None],
        on_ready: Callable[[], None],
        notify: Notify,
        cache: RecentEmbeddings,
        has_faster: Callable[[Predictor], bool] = has_faster,
    ) -> None:
        self._inference = inference
        self._load = load
        self._on_status = on_status
        self._on_ready = on_ready
        self._notify = notify
        self._cache = cache
        self._has_faster = has_faster
        self._stop_download = False
        self._generation = 0  # of the model: what an older one returns is dropped
        self._loading = False
        # Once a model, so that a faster form that does not open, or is damaged, causes no loop.
        self._reloaded = self._mended = False
        self._faster = _Faster.NOT_NEEDED
        self._imports = threading.Thread(target=import_ahead)
        self._wanted: tuple[Hashable, Callable[[Predictor], Embedding]] | None = None
        self._running: Hashable | None = None
        self.name = "default"
        self.device = "auto"
        self.failure = ""
        self.predictor: Predictor | None = None
        self.embedding: Embedding | None = None

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded."""
        return self._loading

    def set_model(self, name: str, device: str = "auto") -> None:
        """Choose a model; it is loaded at once, and the wanted plane embedded again."""
        self.name, self.device = name, device
        self.failure = ""
        self.predictor = self.embedding = None
        self._generation += 1
        self._loading = self._reloaded = self._mended = False
        self._faster = _Faster.NOT_NEEDED
        self.start()

    def start(self) -> None:
        """Load the model if it is not loaded yet."""
        if self.predictor is not None or self._loading:
            return
        self._loading = True
        self._stop_download = False
        generation = self._generation
        name, device = self.in_use

        def job() -> tuple[Predictor, bool]:
            if starts_slowly(name, device):
                self._inference.post(lambda: self._report(generation, _FIRST_TIME))
            predictor = self._load(name, device, progress)
            return predictor, prepare_faster(name, predictor, on_end)

        def on_end() -> None:
            self._inference.post(lambda: self._prepared(generation))

        def progress(done: int, total: int) -> None:
            if self._stop_download or generation != self._generation:
                raise Cancelled
            fraction = done / total if total else None
            text = f"Downloading {name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
            status = Status(StatusKind.DOWNLOADING, text, fraction)
            if fraction is not None and fraction >= 1:
                status = _LOADING
            self._inference.post(lambda: self._report(generation, status))

        self._on_status(_CHANGING if self._reloaded else _LOADING)
        self._inference.submit(
            Lane.MODEL,
            job,
            lambda loaded: self._model_loaded(generation, *loaded),
            lambda error: self._model_failed(generation, error),
        )

    def want(
        self, key: Hashable, embed: Callable[[Predictor], Embedding] | None
    ) -> None:
        """Request the embedding of a plane, replacing the last request.

        Parameters
        ----------
        key : hashable
            Identifies image, plane and preprocessing.
        embed : callable or None
            Makes the embedding in the inference thread. None: nothing is wanted.
        """
        self.embedding = None
        if embed is None:
            self._wanted = None
            self._inference.drop(Lane.EMBED)
            return
        self._wanted = (key, embed)
        self._serve()

    def cancel(self) -> None:
        """Stop waiting. A running job cannot be stopped; its result is kept for later."""
        self._stop_download = True
        self._inference.drop(Lane.EMBED)
        self._inference.drop(Lane.MODEL)
        self._loading = False
        self._generation += self.predictor is None
        self._wanted = None
        self._on_status(Status(StatusKind.CANCELLED, "Cancelled"))

    def _serve(self) -> None:
        """Do the next step towards the wanted embedding."""
        if self._wanted is None:
            return
        predictor = self.predictor
        if predictor is None:
            self.start()
            return
        wanted, embed = self._wanted
        key = (wanted, predictor.model_id)
        found = self._cache.get(key)
        if found is not None:
            self._inference.drop(Lane.EMBED)
            self._ready(found)
            return
        if not self._reloaded and self._running is None and self._has_faster(predictor):
            self._reloaded = True
            self.predictor = None
            self.start()
            return
        slow = self._faster is _Faster.PREPARED
        self._on_status(_READING_SLOWLY if slow else _READING)
        if self._running == key:  # asked for again while it is computed
            self._inference.drop(Lane.EMBED)
            return

        def job() -> Embedding:
            self._running = key
            embedding = self._cache.get(key)  # by now: encoded ahead, or for a commit
            if embedding is None:
                embedding = embed(predictor)
                self._cache.put(key, embedding)  # waiting jobs may need it as well
            return embedding

        self._inference.submit(
            Lane.EMBED,
            job,
            lambda embedding: self._embedded(key, embedding),
            lambda error: self._embedding_failed(key, error),
        )

    def _ready(self, embedding: Embedding) -> None:
        self.embedding = embedding
        self._say_ready()
        self._on_ready()

    def _say_ready(self) -> None:
        """Report that we are ready, then import ahead: earlier, it would delay model and image."""
        if self._imports.ident is None:  # not started yet
            self._imports.start()
        text = ""
        if self.failure:
            text = f"Ready. {self._stand_in}"
        elif self._faster is _Faster.PREPARED:
            text = "Ready. Preparing a faster form…"
        elif self._faster is _Faster.THERE:
            text = "Ready. The next image is faster"
        self._on_status(Status(StatusKind.READY, text))

    def _prepared(self, generation: int) -> None:
        """Report that the process which prepares the faster form has ended."""
        predictor = self.predictor
        if generation != self._generation or predictor is None or self._reloaded:
            return
        there = self._has_faster(predictor)
        self._faster = _Faster.THERE if there else _Faster.NOT_NEEDED
        if self.embedding is not None:
            self._say_ready()

    def _model_loaded(
        self, generation: int, predictor: Predictor, preparing: bool
    ) -> None:
        if generation != self._generation:
            return
        self._loading = False
        self._faster = _Faster.PREPARED if preparing else _Faster.NOT_NEEDED
        self.predictor = predictor
        if self._wanted is None:
            self._say_ready()
        self._serve()

    def _model_failed(self, generation: int, error: Exception) -> None:
        if generation != self._generation or isinstance(error, Cancelled):
            return
        self._loading = False
        what = "The model could not be loaded"
        if self.failure or (self.name, self.device) == _FALLBACK:
            self._fail(what, error)
            return
        logger.debug("%s", what, exc_info=error)
        self.failure = f"{sentence(error, what)} {self._stand_in} instead."
        self._notify("warning", f"{self.failure} Settings in the dock has “Try again”.")
        self.start()

    @property
    def in_use(self) -> tuple[str, str]:
        """The model that answers and its device: as chosen, or what stands in."""
        return _FALLBACK if self.failure else (self.name, self.device)

    @property
    def _stand_in(self) -> str:
        """Begin a sentence about what `_FALLBACK` means for the user's choice."""
        if self.name == _FALLBACK[0]:
            return "It runs where it can"
        return "The bundled model is used"

    def _embedded(self, key: Hashable, embedding: Embedding) -> None:
        self._running = None
        self._cache.put(key, embedding)
        if self._is_wanted(key):
            self._ready(embedding)

    def _embedding_failed(self, key: Hashable, error: Exception) -> None:
        self._running = None
        if not self._is_wanted(key):
            return
        if isinstance(error, DamagedModelError) and not self._mended:
            self._mended = True
            self.predictor = None
            self.start()
            return
        self._fail("The image could not be read", error)

    def _is_wanted(self, key: Hashable) -> bool:
        return (
            self._wanted is not None
            and self.predictor is not None
            and key == (self._wanted[0], self.predictor.model_id)
        )

    def _fail(self, what: str, error: Exception) -> None:
        logger.debug("%s", what, exc_info=error)
        text = sentence(error, what)
        self._on_status(Status(StatusKind.FAILED, text))
        self._notify("error", text)

    def _report(self, generation: int, status: Status) -> None:
        if generation == self._generation and self._loading:
            self._on_status(status)
