"""Files at an address, by fsspec: in a bucket, or on a disk."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sweeper.errors import MissingDependencyError, UserError, first_line

__all__ = ["FIELD", "RemoteFilesError", "RemoteFolder"]

FIELD = "resources.files"
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}
"""By what an address begins with: the package that fsspec needs for it, and our extra that brings it."""
_FRESH = {"s3fs": {"use_listings_cache": False}}
"""Another node writes there: what was listed a moment ago may be gone."""


class RemoteFilesError(UserError, OSError):
    """The storage cannot be reached, read or written."""


class RemoteFolder:
    """A folder at an address; names in it are relative, with slashes.

    Safe from several threads. Every method raises RemoteFilesError where the storage does not do it.
    """

    def __init__(self, address: str) -> None:
        """Connects to nothing. Raises MissingDependencyError where a package is not installed, and UserError
        for an address that fsspec knows nothing of."""
        self.address = address.rstrip("/")
        self._files, self._root = _opened(self.address)

    def __getstate__(self) -> str:
        return self.address

    def __setstate__(self, address: str) -> None:
        self.__init__(address)  # type: ignore[misc]

    def put(self, local: Path, name: str) -> None:
        """Copy a file there; it is there whole or not at all."""
        with self._telling("written"):
            self._write(name, lambda place: self._files.put_file(str(local), place))

    def write(self, name: str, content: bytes) -> None:
        """The same of what is in memory."""
        with self._telling("written"):
            self._write(name, lambda place: self._files.pipe_file(place, content))

    def get(self, name: str, local: Path) -> None:
        """Copy a file here, where it is there whole or not at all."""
        local.parent.mkdir(parents=True, exist_ok=True)
        draft = local.with_name(f".{local.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            with self._telling("read"):
                self._files.get_file(self._place(name), str(draft))
            draft.replace(local)
        finally:
            draft.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        try:
            with self._telling("read"):
                return bytes(self._files.cat_file(self._place(name)))
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        with self._telling("read"):
            return bool(self._files.exists(self._place(name)))

    def sizes(self, under: str, *, deep: bool = True) -> dict[str, int]:
        """The files below a folder there by their names, which begin with the folder's, and their bytes."""
        place = self._place(under)
        with self._telling("listed"):
            try:
                found = self._files.find(place, maxdepth=None if deep else 1, detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._place("").rstrip("/")) + 1
        return {path[start:]: int(info["size"]) for path, info in found.items() if info["type"] == "file"}

    def remove(self, names: Iterable[str]) -> None:
        """Those that are there."""
        for name in names:
            with self._telling("removed"), suppress(FileNotFoundError):
                self._files.rm_file(self._place(name))

    def check(self) -> None:
        """Write a file, read it, list and remove it."""
        name, content = f".check-{uuid.uuid4().hex}", uuid.uuid4().bytes
        self.write(name, content)
        try:
            is_same = self.read(name) == content and name in self.sizes("", deep=False)
        finally:
            self.remove([name])
        if not is_same:
            raise self._error("gives back other files than were written")

    # -----------------------------------------------------------------------------------------

    def _write(self, name: str, write: Any) -> None:
        """In a bucket a file appears when it is whole; on a disk by its last name."""
        place = self._place(name)
        if not self._is_disk:
            write(place)
            return
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        folder, _, last = place.rpartition("/")
        draft = f"{folder}/.{last}.{uuid.uuid4().hex[:8]}"
        try:
            write(draft)
            os.replace(draft, place)  # noqa: PTH105  # paths are fsspec's here
        finally:
            with suppress(FileNotFoundError):
                self._files.rm_file(draft)

    @property
    def _is_disk(self) -> bool:
        return "file" in _names(self._files.protocol)

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _telling(self, done: str) -> Iterator[None]:
        try:
            yield
        except RemoteFilesError:
            raise
        except Exception as error:  # each storage has errors of its own
            if isinstance(error, FileNotFoundError) and done != "written":
                raise
            said = f"{type(error).__name__}: {first_line(error)}"
            raise self._error(f"cannot be {done} ({said})") from error

    def _error(self, rule: str) -> RemoteFilesError:
        return RemoteFilesError.of(
            where=FIELD,
            value=self.address,
            rule=rule,
            remedy="see that the address is there, and that this machine may read and write it (for S3: "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL; `env` under resources brings "
            "them to all nodes)",
        )


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else protocol


def _opened(address: str) -> tuple[Any, str]:
    scheme = address.partition("://")[0]
    package, extra = _EXTRAS.get(scheme, ("fsspec", "s3"))
    for needed in ("fsspec", package):
        if importlib.util.find_spec(needed) is None:
            raise MissingDependencyError.of(
                where=FIELD,
                value=address,
                rule=f"files at {scheme}:// need the package {needed}, which is not installed here",
                remedy=f"pip install 'sweeper[{extra}]' on every node",
            )
    import fsspec

    try:
        files = fsspec.filesystem(scheme, **_FRESH.get(package, {}))
    except (ImportError, ValueError) as error:
        raise UserError.of(
            where=FIELD,
            value=address,
            rule=f"fsspec has no files there ({first_line(error)})",
            remedy="write s3://bucket/folder or file:///folder, or install the package that it names on "
            "every node",
        ) from error
    return files, str(files._strip_protocol(address)).rstrip("/")
