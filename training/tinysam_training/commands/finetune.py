"""Fine-tuning for a lab's own images: a few annotated images, some minutes, one better model.

Users need no recipe. `training/papers/diary.md` compares the three ways on images of sets that the
start had never seen.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import ImageFeatures
from tinysam_training.commands.judged import judged_training
from tinysam_training.data import ImageStore
from tinysam_training.data.frame_batches import EmbeddedFrame, FrameBatches
from tinysam_training.data.sampling import Sources
from tinysam_training.data.turns import TURNS, turned
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.data.windows import whole_frame
from tinysam_training.learning.objective import Objective
from tinysam_training.recipe import (
    Augmentation,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    PromptSettings,
    Recipe,
    Stage,
    ValidationSettings,
    load_recipe,
)
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.held_out import CHOOSING, count_images
from tinysam_training.run.judging import Judge
from tinysam_training.run.starting import launched, starting_model, thresholds_of

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import ImageEntry, LabelledImage
    from tinysam_training.run.loop import Training
    from tinysam_training.run.outcome import TrainingOutcome

Way = Literal["frozen", "lora", "whole"]

#: Learns most from a few images that ask for something new: `training/papers/diary.md`.
DEFAULT_WAY: Way = "whole"

#: Embeddings of frames are kept in memory up to this many bytes.
EMBEDDING_BYTES = 1 << 30

#: Largest share of the time for embedding turned images when the encoder is frozen.
EMBEDDING_SHARE = 0.2


@dataclass(frozen=True)
class FinetuneSettings:
    """The user's choices.

    Attributes
    ----------
    model : str
        A name of the registry or a checkpoint file.
    way : {"frozen", "lora", "whole"}
        Decoder and object head on cached embeddings; those and low-rank additions to the encoder;
        the whole model.
    minutes : float
        Total time: reading, training, judging.
    device : str
        "auto", "cpu", "cuda" or "mps".
    seed : int
    steps : int
        Fixes the length of the training instead of the time, for comparisons.
    """

    model: str = "default"
    way: Way = DEFAULT_WAY
    minutes: float = 10.0
    device: str = "auto"
    seed: int = 0
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Finetuned:
    """The result of fine-tuning.

    Attributes
    ----------
    before, after : SegmentAnything
        The start and the best model, on the CPU, in eval mode.
    outcome : TrainingOutcome
        Of the training.
    better : bool
        Whether any model beat the start on the images that choose. If not, nothing was written.
    recipe : Recipe
        The recipe that was used.
    """

    before: SegmentAnything
    after: SegmentAnything
    outcome: TrainingOutcome
    better: bool
    recipe: Recipe


def finetune_recipe(
    settings: FinetuneSettings, minutes: float, images: int = 2
) -> Recipe:
    """Make the recipe of a way.

    Parameters
    ----------
    settings : FinetuneSettings
    minutes : float
        For the training itself.
    images : int
        How many there are to learn from.
    """
    recipe = Recipe(
        name=f"finetune-{settings.way}",
        losses=LossSettings(object_head=1.0),
        prompts=PromptSettings(),
        augmentation=Augmentation.light() if images > 1 else Augmentation.single(),
        judging=ValidationSettings(every=0.2, images=CHOOSING, objects=6),
        steps=settings.steps,
        minutes=max(minutes, 0.05) if not settings.steps else 0.0,
        checkpoint_minutes=1.0,
        seed=settings.seed,
        model=ModelSettings(start=settings.model, batch_norm="frozen"),
    )
    # Windows instead of whole frames: they show many more objects in the same time. Masks in whole
    # frames then measured as good as in windows.
    if settings.way == "frozen":
        return replace(
            recipe,
            model=replace(recipe.model, trained="decoder"),
            stages=(Stage(windows=((256, 4, 0.7), (512, 1, 0.3)), objects=4),),
            optimizer=OptimizerSettings(learning_rate=5e-4, ema=0.99),
        )
    encoder_learns = Stage(windows=((224, 4, 0.7), (352, 2, 0.3)), objects=4)
    if settings.way == "lora":
        return replace(
            recipe,
            model=replace(recipe.model, trained="lora"),
            stages=(encoder_learns,),
            optimizer=OptimizerSettings(learning_rate=5e-4, ema=0.99),
        )
    return replace(
        recipe,
        stages=(encoder_learns,),
        # A trained model is soon worse at a higher rate, or without a slow beginning.
        optimizer=OptimizerSettings(learning_rate=6e-4, warmup=0.1, ema=0.99),
    )


def finetune(
    train: Sequence[ImageEntry],
    held_out: Sequence[ImageEntry],
    output: Path,
    settings: FinetuneSettings | None = None,
    *,
    background: Sequence[ImageEntry] = (),
    fingerprint: str = "",
    metadata: Mapping[str, str] | None = None,
    reserve: float = 0.0,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_message: Callable[[str], None] = lambda message: None,
    on_step: Callable[[Training, Mapping[str, float]], None] | None = None,
    on_judged: Callable[[Mapping[str, float]], None] = lambda figures: None,
    clock: Callable[[], float] = time.monotonic,
) -> Finetuned:
    """Adapt a model to a few annotated images.

    Parameters
    ----------
    train : sequence of ImageEntry
        Checked (`tinysam_training.data.check_data`).
    held_out : sequence of ImageEntry
        Also checked. They choose the best moment, see `tinysam_training.run.held_out`.
    output : Path
        The ``.safetensors`` file to write; it always holds the best model so far. The run's log,
        curves and record go into a folder beside it.
    settings : FinetuneSettings, optional
    background : sequence of ImageEntry
        Complete images without objects, to train on as well.
    fingerprint : str
        Of the data, for the record.
    metadata : mapping, optional
        Further notes for the file's header.
    reserve : float
        Minutes of the budget that the caller needs afterwards.
    resume : bool
        Go on from the checkpoint beside `output`, if there is one of the same images.
    stop : callable
        Asked after each step: whether to end now with the best model so far.
    on_message : callable
        Called with a sentence about each stage.
    on_step : callable, optional
        As for `Training.run`.
    on_judged : callable
        Called with the figures of each validation, the first of which is of the start.
    clock : callable
        Seconds.

    Returns
    -------
    Finetuned

    Raises
    ------
    DataError, CheckpointError
        If the images or the start cannot be used.
    TinySAMError
        If memory or disk space runs out; the message names the best model so far.
    """
    settings = settings or FinetuneSettings()
    if not train or not held_out:
        raise DataError("Fine-tuning needs at least one annotated image.")
    begun = clock()
    fabric = launched(settings.device)
    torch.manual_seed(settings.seed)
    start = starting_model(settings.model, object_head=True)
    start.quantization = None  # floats learn; the result can be quantized again
    before = copy.deepcopy(start).eval()
    images, held = ImageStore([*train, *background]), ImageStore(held_out)
    learnt = count_images(train)  # tiles and planes of one image teach what one does
    recipe = finetune_recipe(settings, settings.minutes, learnt)

    batches: WindowBatches | FrameBatches
    features_of: Callable[[int], ImageFeatures] | None = None
    if settings.way == "frozen":
        cache = FrameCache(start.to(fabric.device), clock=clock)
        on_message("The images are embedded once; the encoder does not change.")
        limit = 60 * settings.minutes * EMBEDDING_SHARE
        turns = cache.fill(images, seconds=limit)
        for number in Judge(held, fabric.device, limit=recipe.judging.images).numbers:
            cache.add_held_out(number, held[number])
        start.cpu()
        batches = FrameBatches(
            Sources.even(images),
            turns,
            cache.features,
            recipe,
            own=True,
            map_stride=start.map_stride,
        )
        features_of = cache.held_out
    else:
        batches = WindowBatches(
            Sources.even(images),
            recipe,
            device=fabric.device,
            map_stride=start.map_stride,
        )
    # The rest of the time is for training.
    left = settings.minutes - reserve - (clock() - begun) / 60
    folder = RunFolder(run_folder_of(output), recipe, fingerprint=fingerprint)
    resume = resume and folder.checkpoint.exists()
    if resume:  # its schedule goes on, however long reading took this time
        left = load_recipe(folder.path / "recipe.yaml").minutes
    folder.recipe = batches.recipe = recipe = finetune_recipe(settings, left, learnt)
    folder.best = output
    folder.begin(resume=resume)
    notes = {
        "made_by": "napari-tinysam finetune",
        "start": settings.model,
        "way": settings.way,
        "images": str(learnt),
        "data": fingerprint,
        **thresholds_of(settings.model),
        **(metadata or {}),
    }

    judge = Judge(
        held,
        fabric.device,
        limit=recipe.judging.images,
        objects=recipe.judging.objects,
        features=features_of,
    )

    def judged(model: SegmentAnything) -> Mapping[str, float]:
        figures = judge(model)
        on_judged(figures)
        return figures

    training = judged_training(
        Objective(start, recipe),
        batches,
        recipe,
        folder,
        fabric,
        judge=judged,
        notes=notes,
        clock=clock,
    )
    if resume and training.resume():
        on_message(f"Training goes on after step {training.steps}.")
    else:
        on_message(f"Training for {recipe.minutes:.1f} minutes.")
    outcome = training.run(on_step=on_step, stop=stop)
    better = outcome.best.get("step", 0) > 0
    after = checkpoints.load(output).model if better else before
    return Finetuned(before, after, outcome, better, recipe)


def run_folder_of(output: Path) -> Path:
    """Return the folder of a fine-tuned model's log, curves and record."""
    return output.with_name(f"{output.stem}-finetune")


@dataclass(eq=False)
class FrameCache:
    """A frozen encoder's features of whole frames, in memory as float16.

    Attributes
    ----------
    model : SegmentAnything
        In eval mode while it embeds.
    clock : callable
        Seconds.
    """

    model: SegmentAnything
    clock: Callable[[], float] = time.monotonic
    _known: dict[EmbeddedFrame, ImageFeatures] = field(default_factory=dict)
    _held: dict[int, ImageFeatures] = field(default_factory=dict)

    def fill(self, images: ImageStore, seconds: float) -> tuple[str, ...]:
        """Embed all images, and turned, while time and memory last.

        Parameters
        ----------
        images : ImageStore
        seconds : float
            After this time no further turn is started. The unturned images always come first.

        Returns
        -------
        tuple of str
            The turns for which all images are embedded.
        """
        begun = self.clock()
        done: list[str] = []
        for turn in TURNS:
            spent = self.clock() - begun
            if done and spent * (len(done) + 1) / len(done) > seconds:
                break
            if done and self._size() * (len(done) + 1) / len(done) > EMBEDDING_BYTES:
                break
            for number in range(len(images)):
                frame = EmbeddedFrame(number, turn)
                self._known[frame] = self._embed(turned(images[number], turn))
            done.append(turn)
        return tuple(done)

    def add_held_out(self, number: int, image: LabelledImage) -> None:
        """Embed a held-out image."""
        self._held[number] = self._embed(image)

    def features(self, frame: EmbeddedFrame) -> ImageFeatures:
        """Return the features of a frame, a batch of one."""
        return self._known[frame]

    def held_out(self, number: int) -> ImageFeatures:
        """Return the features of a held-out image, a batch of one."""
        return self._held[number]

    def _size(self) -> int:
        """Bytes of the turns' features."""
        tensors = ((f.embedding, *f.details) for f in self._known.values())
        return sum(tensor.nbytes for some in tensors for tensor in some)

    @torch.inference_mode()
    def _embed(self, image: LabelledImage) -> ImageFeatures:
        window = whole_frame(image)
        shown = window.rgb[None, :, : window.height, : window.width]
        rgb = torch.from_numpy(shown).to(self.model.device)
        model = self.model.eval()
        found = model.features(model.normalize_and_pad(rgb))
        details = tuple(each.to("cpu", torch.float16) for each in found.details)
        return ImageFeatures(found.embedding.to("cpu", torch.float16), details)
