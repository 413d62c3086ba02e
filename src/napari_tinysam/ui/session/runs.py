"""What runs in the background while the user goes on clicking, and who must wait for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.auto.all_planes import AllPlanes
from napari_tinysam.ui.session.auto.files_run import FilesRun
from napari_tinysam.ui.session.auto.segmenter import AutoSegmenter
from napari_tinysam.ui.session.following.object_follower import ObjectFollower
from napari_tinysam.ui.session.following.runs import FollowRuns
from napari_tinysam.ui.session.stacks.linking import Linking
from napari_tinysam.ui.session.stacks.work import Workplace
from napari_tinysam.ui.session.tracks.following import TrackFollowing
from napari_tinysam.ui.session.tracks.tracking import Tracking

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.ui.session.auto.proposals import ShownProposals
    from napari_tinysam.ui.session.auto.run import EmbeddedPlane
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.status import Status
    from napari_tinysam.ui.state.subject import Subject


class Runs:
    """Makes the runs of a session, and tells them of what concerns them all.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
    embedder : Embedder
    cache : RecentEmbeddings
    labelling : Labeller
    proposals : ShownProposals
    notify : callable
        ``notify(level, text)``.
    scene : callable
        Returns the shown plane with its embedding; None where there is none.
    go_to : callable
        Shows a plane.
    on_status : callable
        Called with a `Status`; None when a run has ended.

    Attributes
    ----------
    auto : AutoSegmenter
        Proposals for the shown plane.
    all_planes : AllPlanes
        Objects of all planes and images.
    linking, tracking : Linking, Tracking
        Objects through planes and frames.
    follow_runs, follower : FollowRuns, ObjectFollower
        Single objects through planes.
    track_following : TrackFollowing
        Tracks that the model follows anew.
    files : FilesRun
        Files that are not open, in a process of their own.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        cache: RecentEmbeddings,
        labelling: Labeller,
        proposals: ShownProposals,
        notify: Notify,
        *,
        scene: Callable[[], EmbeddedPlane | None],
        go_to: Callable[[Plane], None],
        on_status: Callable[[Status | None], None],
    ) -> None:
        self._subject = subject
        self.auto = AutoSegmenter(
            inference,
            subject,
            proposals,
            notify,
            scene=scene,
            labelled=labelling.labelled,
            on_status=on_status,
        )
        self.all_planes = AllPlanes(
            viewer,
            subject,
            inference,
            embedder,
            cache,
            labelling.filling,
            notify,
            on_status=on_status,
            on_done=self._planes_done,
        )
        workplace = Workplace(
            viewer,
            subject,
            inference,
            labelling.outputs,
            labelling.saving,
            labelling.relabelling,
            notify,
            on_status,
        )
        self.linking = Linking(workplace)
        self.tracking = Tracking(workplace, self.linking)
        self.follow_runs = FollowRuns(
            viewer,
            subject,
            inference,
            embedder,
            cache,
            labelling,
            notify,
            busy=lambda: self._whole_stacks,
            on_status=on_status,
        )
        self.follower = ObjectFollower(
            subject, labelling, self.follow_runs, notify, go_to=go_to
        )
        self.track_following = TrackFollowing(
            subject, labelling, self.follow_runs, self.tracking, notify
        )
        self.files = FilesRun(inference.post, notify)

    # --- what is running -----------------------------------------------------------------

    @property
    def _whole_stacks(self) -> bool:
        return self.all_planes.running or self.linking.running or self.tracking.running

    @property
    def writing(self) -> bool:
        """Whether a run writes into labels."""
        return self._whole_stacks or self.follow_runs.running

    @property
    def searching(self) -> bool:
        """Whether a run asks the model."""
        return self.auto.running or self.all_planes.running or self.follow_runs.running

    @property
    def said(self) -> bool:
        """Whether a run is said rather than that the session is ready."""
        return self.auto.decoding or self.writing

    # --- what concerns them --------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop what works on labels that are about to be changed by undo or redo."""
        self.linking.interrupt()
        self.tracking.interrupt()

    def cancel(self) -> None:
        """Stop, and keep what was found."""
        self.auto.cancel()
        self.all_planes.cancel()
        self.follower.cancel()
        self.linking.cancel()
        self.tracking.cancel()

    def model_changed(self) -> None:
        """Stop what the model before was asked."""
        self.auto.model_changed()
        self.all_planes.model_changed()
        self.follow_runs.stop("Following stopped: the model was changed.")

    def data_changed(self, image: Image) -> None:
        """Stop what asks about other pixels than the image has now."""
        self.auto.forget(image)
        self.all_planes.forget(image)
        self.follow_runs.forget(image)

    def forget(self, image: Image) -> None:
        """Stop with an image that left the viewer."""
        self.data_changed(image)
        self.linking.forget(image)
        self.tracking.forget(image)

    def labels_gone(self, layer: Labels) -> None:
        """Stop with labels that left the viewer."""
        self.all_planes.labels_gone(layer)
        self.follow_runs.labels_gone(layer)
        self.linking.forget(layer)
        self.tracking.forget(layer)

    def close(self) -> None:
        """End them all, without telling anyone."""
        self.auto.close()
        self.all_planes.close()
        self.follow_runs.close()
        self.linking.close()
        self.tracking.close()
        self.files.close()

    def _planes_done(self, images: list[Image]) -> None:
        """Link stacks and track movies that were auto-segmented, if that is chosen."""
        if not self._subject.memory.then_link:
            return
        for image in images:  # what was not searched stays as it is
            state = self._subject.memory.state_of(image)
            state.part = self.all_planes.searched(image)
        movies = [image for image in images if self.tracking.time_known(image)]
        stacks = [
            image
            for image in images
            if image not in movies and self.linking.depth_known(image)
        ]
        if stacks:
            self.linking.link(stacks, lambda: self.tracking.track(movies))
        else:
            self.tracking.track(movies)
