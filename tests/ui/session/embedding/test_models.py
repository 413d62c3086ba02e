"""Models that load late, fail, or are changed while something is under way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from desk import Desk, noise, open_desk
from fake_inference import SteppedInference
from fake_predictor import disc_predictor
from napari_tinysam.errors import DamagedModelError
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.session.embedding import embedder
from napari_tinysam.ui.session.facade import AnnotationSession, StatusKind
from napari_tinysam.ui.session.hints import hint
from napari_tinysam.ui.session.worker import Lane


def test_clicks_before_the_embedding_are_answered_when_it_is_there() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    assert desk.session.status.kind is StatusKind.LOADING_MODEL
    desk.click(100, 80)
    desk.session.commit()  # impatient: it is written as soon as there is a mask
    inference.step()
    assert desk.session.status.kind is StatusKind.EMBEDDING
    inference.run_all()
    assert desk.ids == [1]


def test_an_embedding_that_comes_too_late_is_kept_but_not_shown() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(3, 60, 80), inference=inference)
    inference.step()
    deliver = inference.start()  # of the middle plane
    desk.viewer.dims.set_current_step(0, 0)
    deliver()
    assert desk.session.status.kind is StatusKind.EMBEDDING
    inference.run_all()
    assert desk.session.status.kind is StatusKind.READY
    desk.viewer.dims.set_current_step(0, 1)
    assert desk.session.status.kind is StatusKind.READY
    assert len(desk.runtime.encoded) == 2


def test_cancel_and_go_on_with_a_click() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    inference.step()
    desk.session.cancel()
    assert desk.session.status.kind is StatusKind.CANCELLED
    assert not inference.waiting
    desk.click(100, 80)
    inference.run_all()
    assert set(desk.preview_pixels()) == {"current"}


def test_a_failure_is_one_sentence_and_not_the_end(desk: Desk) -> None:
    desk.runtime.failure = MemoryError()
    desk.image.data = np.zeros((200, 300))
    assert desk.session.status.kind is StatusKind.FAILED
    assert "memory" in desk.told[-1][1]
    desk.runtime.failure = None
    desk.image.data = np.ones((200, 300))
    assert desk.session.status.kind is StatusKind.READY


def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such file")

    desk = open_desk(noise(60, 80), load_predictor=fail)
    assert desk.session.status.kind is StatusKind.FAILED
    assert desk.told == [("error", desk.session.status.text)]


def loader(
    broken: set[tuple[str, str]], asked: list[tuple[str, str]]
) -> Callable[..., Predictor]:
    """Load discs, unless name and device are among the broken ones."""

    def load(name: str, device: str, _: Any) -> Predictor:
        asked.append((name, device))
        if (name, device) in broken:
            raise RuntimeError(f"There is no file {name}.")
        return disc_predictor()[0]

    return load


def test_the_bundled_model_stands_in_for_one_that_cannot_be_loaded() -> None:
    ours = ("/gone/ours.pth", "cpu")
    broken, asked = {ours}, list[tuple[str, str]]()
    desk = open_desk(
        noise(200, 300),
        load_predictor=loader(broken, asked),
        model_name=ours[0],
        device=ours[1],
    )
    session = desk.session
    assert session.status.kind is StatusKind.READY
    assert "bundled model" in session.status.text
    assert asked == [ours, ("default", "auto")]
    ((level, text),) = desk.told  # once, also after more planes and clicks
    assert level == "warning"
    assert "There is no file /gone/ours.pth. The bundled model is used instead." in text
    desk.click(100, 80)
    assert desk.preview_pixels()
    desk.image.data = np.ones((200, 300))
    assert len(asked) == 2
    assert len(desk.told) == 1
    # What was chosen stays so, and can be had again.
    assert (session.model_name, session.device) == ours
    assert session.model_in_use == ("default", "auto")
    begun: list[tuple[str, str]] = []
    session.adapting.begin = lambda *model: begun.append(model)  # type: ignore[method-assign]
    session.adapt()
    assert begun == [("default", "auto")]
    assert text.startswith(session.model_failure)
    broken.clear()
    session.set_model(session.model_name, session.device)
    assert asked[2:] == [ours]
    assert session.model_in_use == ours
    assert session.status.text == session.model_failure == ""


def test_another_device_stands_in_for_one_that_is_not_there() -> None:
    asked: list[tuple[str, str]] = []
    load = loader({("default", "cuda")}, asked)
    desk = open_desk(noise(60, 80), load_predictor=load, device="cuda")
    assert desk.session.status.kind is StatusKind.READY
    assert asked == [("default", "cuda"), ("default", "auto")]
    assert "It runs where it can instead." in desk.told[0][1]


def test_without_the_bundled_model_there_is_no_other_try() -> None:
    asked: list[tuple[str, str]] = []
    broken = {("default", "auto"), ("ours", "auto")}
    desk = open_desk(
        noise(60, 80), load_predictor=loader(broken, asked), model_name="ours"
    )
    assert desk.session.status.kind is StatusKind.FAILED
    assert [level for level, _ in desk.told] == ["warning", "error"]
    assert len(asked) == 2


def two_models() -> Callable[..., Predictor]:
    """Load a model whose second mask is best, or, called "other", one whose last is."""

    def load(name: str, *_: Any) -> Predictor:
        predictor, runtime = disc_predictor()
        decode = runtime.decode

        def other(*arguments: Any, **options: Any) -> Any:
            found = decode(*arguments, **options)
            return found._replace(scores=found.scores[:, ::-1] / 2)

        if name == "other":
            runtime.decode = other  # type: ignore[method-assign]
        predictor.model_id = name
        return predictor

    return load


@pytest.mark.parametrize("how", ["click", "hover"])
def test_what_the_old_model_decodes_is_dropped_when_the_model_is_changed(
    how: str,
) -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    session = desk.session
    if how == "click":
        desk.click(100, 80)
    else:
        session.hover_at(desk.world(100, 80))
    deliver = inference.start()
    session.set_model("other")
    deliver()
    assert set(desk.preview_pixels()) <= {"waiting"}
    if how == "hover":
        desk.click(100, 80)
    assert session.candidate_scores == ()
    inference.run_all()
    assert session.candidate_scores == pytest.approx((0.35, 0.45, 0.3))


def test_masks_of_the_old_model_are_forgotten() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    desk.click(100, 80)
    inference.run_all()
    assert desk.session.candidate_scores == pytest.approx((0.6, 0.9, 0.7))
    desk.session.set_model("other")
    desk.session.commit()  # waits for the new model
    assert desk.ids == []
    inference.run_all()
    assert desk.ids == [1]
    desk.session.undo()
    assert desk.session.candidate_scores == pytest.approx((0.35, 0.45, 0.3))


def test_an_error_of_the_old_model_is_not_the_new_one_s() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    desk.click(100, 80)
    _, _, on_error = inference.waiting.pop(Lane.PROMPT)
    desk.session.set_model("other")
    on_error(RuntimeError("old"))
    inference.run_all()
    assert not desk.told
    assert desk.session.candidate_scores


def test_a_model_converted_meanwhile_takes_over_with_the_next_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared: list[bool] = []
    asked: list[str] = []

    def is_prepared(model_id: str) -> bool:
        asked.append(model_id)
        return bool(prepared) and model_id.endswith("/cpu")

    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice.is_prepared", is_prepared
    )
    loaded: list[Predictor] = []

    def load(*_: Any) -> Predictor:
        _, runtime = disc_predictor()
        kind = "openvino" if prepared else "cpu"
        loaded.append(Predictor(runtime, name="discs", model_id=f"discs/{kind}"))
        return loaded[-1]

    stack = Image(np.random.default_rng(0).random((3, 80, 90)))
    desk = open_desk(stack, load_predictor=load)
    desk.click(30, 30)
    assert len(loaded) == 1
    prepared.append(True)
    desk.click(40, 40)  # the plane that is there stays as it is
    assert len(loaded) == 1
    desk.viewer.dims.set_current_step(0, 2)
    assert len(loaded) == 2
    assert desk.session._parts.embedder.predictor is loaded[1]
    before = desk.session.object_count
    desk.click(30, 30)
    assert desk.session.object_count >= max(1, before)
    # Once is enough, even if the faster one had not opened.
    loaded[1].model_id = "discs/cpu"
    desk.viewer.dims.set_current_step(0, 0)
    assert len(loaded) == 2


def test_the_first_start_says_what_happens_until_the_faster_form_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = "napari_tinysam.inference.runtime.choice"
    made: list[bool] = []  # whether the faster form is there
    ended: list[Callable[[], None]] = []

    def prepare(name: str, model_id: str, on_end: Callable[[], None]) -> bool:
        if not made:
            ended.append(on_end)
        return not made

    monkeypatch.setattr(f"{choice}.needs_preparing", lambda *_: not made)
    monkeypatch.setattr(f"{choice}.prepare_in_background", prepare)
    monkeypatch.setattr(f"{choice}.is_prepared", lambda _: bool(made))
    inference = SteppedInference()
    stack = noise(3, 60, 80)
    desk = open_desk(stack, inference=inference)
    told: list[tuple[str, bool, str]] = []
    session = desk.session
    session.status_changed.connect(
        lambda status: told.append((status.text, status.first_time, hint(session)))
    )
    inference.run_all()
    texts, first, hints = zip(*told, strict=True)
    assert texts == (
        "Reading the model, for the first time…",
        "Reading the image, slowly this time…",
        "Ready. Preparing a faster form…",
    )
    assert first == (True, True, False)
    assert "half a minute, only this first time" in hints[0]
    assert "faster form" in hints[1]
    assert "click it" in hints[2]

    told.clear()
    made.append(True)
    ended.pop()()  # the process beside napari
    assert session.status.text == "Ready. The next image is faster"
    desk.viewer.dims.set_current_step(0, 0)
    inference.run_all()
    assert [text for text, _, _ in told[1:]] == [
        "Changing to the faster form of the model…",
        "Reading the image…",
        "",
    ]
    assert not any(first for _, first, _ in told)
    assert not ended


def test_a_faster_form_that_cannot_be_made_is_not_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[Callable[[], None]] = []
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice.prepare_in_background",
        lambda name, model_id, on_end: ended.append(on_end) or True,
    )
    desk = open_desk(noise(60, 80))
    assert "faster" in desk.session.status.text
    desk.session.set_model("other")  # prepares a form of its own
    ended[0]()
    assert "Preparing" in desk.session.status.text
    ended[1]()
    assert desk.session.status.text == ""
    # What ends while something else is shown changes nothing.
    desk.viewer.dims.ndisplay = 3
    ended[1]()
    assert desk.session.status.kind is StatusKind.VIEW_3D


def test_a_download_that_is_complete_is_loaded() -> None:
    told: list[tuple[StatusKind, str]] = []

    def load(name: str, device: str, progress: Callable[[int, int], None]) -> Any:
        for done in (1, 2):
            progress(done * 10**6, 2 * 10**6)
        return disc_predictor()[0]

    inference = SteppedInference()
    desk = open_desk(noise(60, 80), inference=inference, load_predictor=load)
    desk.session.status_changed.connect(
        lambda status: told.append((status.kind, status.text))
    )
    inference.run_all()
    assert told[0] == (StatusKind.DOWNLOADING, "Downloading default: 1 of 2 MB")
    assert told[1] == (StatusKind.LOADING_MODEL, "Loading the model…")


@pytest.mark.parametrize("mended", [True, False])
def test_a_model_found_damaged_while_it_embeds_is_loaded_once_more(
    mended: bool,
) -> None:
    loaded: list[Predictor] = []

    def load(*_: Any) -> Predictor:
        predictor, runtime = disc_predictor()
        if not loaded or not mended:
            runtime.failure = DamagedModelError("Something is damaged.")
        loaded.append(predictor)
        return predictor

    desk = open_desk(
        Image(np.random.default_rng(0).random((80, 90))), load_predictor=load
    )
    assert len(loaded) == 2
    errors = [text for level, text in desk.told if level == "error"]
    if mended:
        desk.click(30, 30)
        assert desk.session.candidate_scores
        assert not errors
    else:
        assert desk.session.status.kind is StatusKind.FAILED
        assert len(errors) == 1
        assert "Something is damaged" in errors[0]


def test_imports_for_later_begin_when_the_image_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(embedder, "import_ahead", begun.set)
    inference = SteppedInference()
    predictor, _ = disc_predictor()
    viewer = ViewerModel()
    viewer.add_layer(noise(60, 80))
    session = AnnotationSession(viewer, inference, load_predictor=lambda *_: predictor)
    session.set_active(True)
    while session.status.kind is not StatusKind.READY:
        assert not begun.is_set()
        inference.step()
    assert begun.wait(10)
    session.close()


def test_what_is_imported_for_later_is_really_imported() -> None:
    """Some packages import their parts only when they are used."""
    code = (
        "import sys\n"
        "from napari_tinysam.inference import load\n"
        "from napari_tinysam.ui.session.embedding import loading\n"
        "load._import_ahead(); loading.import_ahead()\n"
        "for name in sys.argv[1:]: assert name in sys.modules, name\n"
    )
    needed = ("skimage.segmentation._watershed", "skimage.color.colorconv", "pandas")
    subprocess.run([sys.executable, "-c", code, *needed], check=True)


def test_a_mask_without_pixels_is_not_said_to_be_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = desk.runtime.decode

    def nothing(*arguments: Any, **options: Any) -> Any:
        found = decode(*arguments, **options)
        return found._replace(logits=np.full_like(found.logits, -10))

    desk.click(100, 80)
    assert "C commits it" in hint(desk.session)
    desk.session.next_object()
    monkeypatch.setattr(desk.runtime, "decode", nothing)
    desk.click(200, 120)
    assert "no object here" in hint(desk.session)
    desk.session.undo()
    assert "no object here" not in hint(desk.session)
