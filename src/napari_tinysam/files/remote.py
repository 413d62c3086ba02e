"""Images on servers and in object stores: addresses that are used like paths, for reading only.

fsspec knows the kinds of addresses; http and https work as installed, s3 needs the package s3fs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from napari_tinysam.errors import FileError

_SIGN = "://"


@dataclass(frozen=True)
class RemotePath:
    """The part of `pathlib.Path` that reading OME-Zarr needs, for an address.

    Parameters
    ----------
    scheme : str
        Such as ``https``.
    place : str
        What follows ``://``, without a slash at the end.
    """

    scheme: str
    place: str

    @classmethod
    def of(cls, address: str) -> RemotePath:
        """Parse an address."""
        scheme, _, place = address.partition(_SIGN)
        return cls(scheme.lower(), place.rstrip("/"))

    def __str__(self) -> str:
        """Return the address."""
        return f"{self.scheme}{_SIGN}{self.place}"

    def __truediv__(self, name: str) -> RemotePath:
        """Return the address of what is below."""
        return RemotePath(self.scheme, f"{self.place}/{name.strip('/')}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.place).name

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """What this lies in, the nearest first."""
        places = [str(parent) for parent in PurePosixPath(self.place).parents]
        return tuple(RemotePath(self.scheme, place) for place in places if place != ".")

    @property
    def parent(self) -> RemotePath:
        """What this lies in."""
        return self.parents[0] if self.parents else self

    def is_file(self) -> bool:
        """Whether something can be read here; False also if nobody answers.

        Raises
        ------
        FileError
            If addresses of this kind need a package that is not installed.
        """
        return bool(self._system().isfile(str(self)))

    def is_dir(self) -> bool:
        """Whether this may be a folder: servers do not say."""
        return True

    def exists(self) -> bool:
        """Whether something can be read here."""
        return self.is_file()

    def resolve(self) -> RemotePath:
        """Return this: an address is absolute."""
        return self

    def absolute(self) -> RemotePath:
        """Return this: an address is absolute."""
        return self

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read all of it; raises FileNotFoundError and whatever the server's answer causes."""
        return bytes(self._system().cat_file(str(self))).decode(encoding)

    def _system(self) -> Any:
        try:
            import fsspec

            return fsspec.filesystem(self.scheme)
        except ImportError as error:
            package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
            name = package.get(self.scheme, "that fsspec names")
            raise FileError(
                f"{self}: addresses that begin with {self.scheme}:// need the package {name}: "
                f"pip install {name}."
            ) from error
        except ValueError as error:
            raise FileError(
                f"{self}: addresses that begin with {self.scheme}:// are not known."
            ) from error


#: Where an image is.
ImagePath = Path | RemotePath


def store_of(path: ImagePath) -> Any:
    """Return what `zarr.open_array` takes for a folder or an address."""
    if not isinstance(path, RemotePath):
        return str(path)
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(path), read_only=True)


def is_address(name: str) -> bool:
    """Whether a name is the address of something on a server, such as ``https://…``."""
    scheme, sign, place = name.partition(_SIGN)
    # A letter alone is a drive of Windows.
    return bool(sign and place) and scheme.isalnum() and len(scheme) > 1
