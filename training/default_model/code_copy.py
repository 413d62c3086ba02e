"""A copy of a commit's code, so that work on the tree does not disturb a training."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from default_model.state import RefusedError
from napari_tinysam.files.atomic import unfinished

#: The root of the repository that this file is part of.
REPOSITORY = Path(__file__).parents[2]


def head(repository: Path = REPOSITORY) -> str:
    """Return the hash of the commit that is checked out.

    Raises
    ------
    RefusedError
        If there is no repository.
    """
    return _git(repository, "rev-parse", "HEAD").decode().strip()


def copy_code(folder: Path, repository: Path = REPOSITORY) -> str:
    """Copy ``src`` and ``training`` of the commit that is checked out.

    Parameters
    ----------
    folder : Path
        Replaced when the copy is whole.
    repository : Path

    Returns
    -------
    str
        The commit.

    Raises
    ------
    RefusedError
        If there is no repository.
    """
    commit = head(repository)
    with unfinished(folder, lambda _: False) as part:
        part.mkdir(parents=True)
        archive = part / "archive.tar"
        _git(repository, "archive", "-o", str(archive), commit, "src", "training")
        with tarfile.open(archive) as opened:
            opened.extractall(part, filter="data")
        archive.unlink()
    return commit


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RefusedError(
            f"{repository} is not a git repository with a commit to copy."
        ) from error
    return done.stdout
