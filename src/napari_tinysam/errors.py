"""The errors that users read, and how any other exception becomes a sentence for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class TinySAMError(Exception):
    """Something cannot be done; the message is a sentence for the user.

    It has a subclass only where somebody catches that kind apart from the others.
    """


class UsageError(TinySAMError):
    """The command line makes no sense."""


class FileError(TinySAMError):
    """A file cannot be read or written."""


class SelectionError(FileError, ValueError):
    """A file has no such series, plane or channel."""


class CheckpointError(TinySAMError, RuntimeError):
    """A checkpoint cannot be found, downloaded, read or written."""


class ConversionError(TinySAMError, RuntimeError):
    """A model cannot be converted for OpenVINO."""


class DamagedModelError(TinySAMError, RuntimeError):
    """A converted model was damaged, and is removed: load the model again."""


class DataError(TinySAMError, ValueError):
    """Training data or a recipe cannot be used."""


def sentence(error: BaseException, what: str = "") -> str:
    """Make a sentence for users of any exception.

    Parameters
    ----------
    error : BaseException
        A `TinySAMError` keeps its message. Other errors give their first line that is not empty;
        of errors of the operating system only the reason, without numbers.
    what : str
        What failed, such as ``"cells.tif cannot be read"``; goes before the reason.
    """
    if isinstance(error, TinySAMError):
        text = str(error)
    elif is_about_memory(error):
        text = f"{'there' if what else 'There'} is not enough memory"
    elif isinstance(error, OSError) and error.strerror:
        named = error.filename is not None and not what
        text = f"{error.filename}: {error.strerror}" if named else error.strerror
    else:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        ends = (i for i, line in enumerate(lines, 1) if not line.endswith(":"))
        text = " ".join(lines[: next(ends, None)]).rstrip(":") or type(error).__name__
    text = f"{what}: {text}" if what else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def is_about_memory(error: BaseException) -> bool:
    """Whether Python or torch could not allocate memory, on the CPU or on a GPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )


@contextmanager
def explained(what: str = "", *, defects: bool = True) -> Iterator[None]:
    """Turn what files, devices and bad values raise into a `TinySAMError`; see `sentence`.

    With ``defects=False`` a RuntimeError or TypeError passes, unless it is about memory: after a
    long computation its traceback helps.
    """
    try:
        yield
    except TinySAMError:
        raise
    except (MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        is_defect = isinstance(error, (RuntimeError, TypeError))
        if is_defect and not defects and not is_about_memory(error):
            raise
        raise TinySAMError(sentence(error, what)) from error
