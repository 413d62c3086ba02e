"""Downloads: a file arrives whole and checked under its name, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.checkpoints.read import read_model
from napari_tinysam.checkpoints.registry import ENVIRONMENT_VARIABLE, Checkpoint
from napari_tinysam.checkpoints.sniff import describe
from napari_tinysam.errors import CheckpointError, sentence
from napari_tinysam.files.atomic import remove_abandoned, unfinished

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]

_CHUNK_BYTES = 1 << 18

# In seconds. A stalled download ends after half a minute, so an unfinished file that nobody has
# written to for longer was left behind by a killed process.
_ABANDONED_AFTER = 600.0


def download(
    checkpoint: Checkpoint, url: str, folder: Path, progress: Progress | None = None
) -> Path:
    """Download a checkpoint under a temporary name, check it, rename it.

    Parameters
    ----------
    checkpoint : Checkpoint
        What to download.
    url : str
        Where it is.
    folder : Path
        Where it goes; made if necessary.
    progress : callable, optional
        Called with the bytes done and in total (0 if not known). An exception that it raises ends
        the download and is passed on.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        If there is no network, the folder cannot be written to, or the file is not the right one.
    """
    path = folder / checkpoint.filename
    meter = _Meter(progress, checkpoint.size or 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder, _ABANDONED_AFTER)
        with unfinished(path) as temporary:
            _transfer(checkpoint, url, temporary, meter)
            _check_download(checkpoint, url, temporary, path)
    except OSError as error:
        if error is meter.interruption:
            raise
        reason = sentence(error, f"{checkpoint.title} cannot be stored in {folder}")
        raise CheckpointError(
            f"{reason} The environment variable {ENVIRONMENT_VARIABLE} can name another folder."
        ) from error
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(sentence(error, f"{path} cannot be read")) from error


def _memory(path: Path) -> Path:
    """Return the file that keeps the hash of a download whose authors publish none."""
    return path.with_name(path.name + ".json")


def check_unchanged(path: Path, sha256: str, checkpoint: Checkpoint) -> None:
    """Compare a file with the published hash, or with that of its download.

    Raises
    ------
    CheckpointError
        If they differ.
    """
    expected = checkpoint.sha256
    if expected is None:
        try:
            expected = json.loads(_memory(path).read_text("utf-8"))["sha256"]
        except (OSError, ValueError, LookupError, TypeError):
            return  # bundled, or put there by hand
    if sha256 != expected:
        raise CheckpointError(
            f"{path} is {describe(path)}, but not the {checkpoint.title} checkpoint that was "
            f"published or downloaded (SHA-256 {sha256[:12]}… instead of {expected[:12]}…). "
            "Delete it to download it again."
        )


def _transfer(checkpoint: Checkpoint, url: str, temporary: Path, meter: _Meter) -> None:
    import requests
    from pooch import HTTPDownloader

    opened: list[requests.Response] = []

    def keep(response: requests.Response, **options: object) -> None:
        opened.append(response)

    download = HTTPDownloader(
        progressbar=meter, chunk_size=_CHUNK_BYTES, hooks={"response": keep}
    )
    try:
        download(url, str(temporary), None)
    except requests.RequestException as error:
        if error is meter.interruption:
            raise
        raise CheckpointError(
            f"{checkpoint.title} could not be downloaded from {url} ({_reason(error)}). Where "
            f"there is no network, put the file {checkpoint.filename} into the folder "
            f"{temporary.parent}, or into one that the environment variable "
            f"{ENVIRONMENT_VARIABLE} names, or choose the file itself as the model."
        ) from error
    finally:
        for response in opened:  # pooch leaves a cancelled one open
            response.close()


def _reason(error: Exception) -> str:
    """Return in a few words why a download failed."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return (
            f"the server answered {error.response.status_code} {error.response.reason}"
        )
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate was not accepted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection to the server"


def _check_download(
    checkpoint: Checkpoint, url: str, temporary: Path, path: Path
) -> None:
    """Check a download before it gets its name; keep its hash where none is published."""
    sha256 = file_sha256(temporary)
    if checkpoint.sha256 is not None:
        if sha256 != checkpoint.sha256:
            raise CheckpointError(
                f"The file from {url} is {describe(temporary)}, but not the published one "
                f"(SHA-256 {sha256[:12]}… instead of {checkpoint.sha256[:12]}…), and was deleted. "
                "Try again later."
            )
        return
    try:
        read_model(temporary)
    except CheckpointError as error:
        reason = str(error).replace(temporary.name, checkpoint.filename)
        raise CheckpointError(
            f"The file from {url} cannot be used and was deleted: {reason}"
        ) from error
    with unfinished(_memory(path)) as memory:
        record = {"url": url, "sha256": sha256, "size": temporary.stat().st_size}
        memory.write_text(json.dumps(record, indent=1), "utf-8")


class _Meter:
    """A progress bar for pooch that reports (bytes done, bytes in total) to a callback.

    `pooch.retrieve` is not used: it would delete a wrong file before it is described, give a file
    without a published hash its name before it is checked, and leave unmarked files behind when
    killed.

    Parameters
    ----------
    report : callable or None
        The callback.
    expected : int
        Bytes in total, for servers that do not say; 0 if not known.
    """

    total: int  # set by pooch from the server's answer; 0 if not known

    def __init__(self, report: Progress | None, expected: int) -> None:
        self.total = 0
        self.interruption: BaseException | None = None
        self._report = report
        self._expected = expected
        self._done = 0

    def update(self, count: int) -> None:
        """Count bytes. pooch always counts a whole chunk, so the last one counts too much."""
        self._done += count
        if self._report is None:
            return
        total = self.total or self._expected
        try:
            self._report(min(self._done, total) if total else self._done, total)
        except BaseException as error:
            self.interruption = error  # the caller's own, passed on as it is
            raise

    def reset(self) -> None:
        """Do nothing: pooch fills the bar up afterwards, and `update` caps the sum."""

    def close(self) -> None:
        """Do nothing at the end."""
