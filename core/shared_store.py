"""Finished stages at a URL, for machines without a common disk: S3, GCS, Azure, SFTP, whatever fsspec reaches.

A stage's files are uploaded into a folder that no other upload uses; the listing that names each of them with its size
and sha256 is written last. A stage without a listing is not there, so a killed upload is never seen, and two machines
that finish the same stage do not mix their files. What does not fit its listing is never used.

    <url>/stages/chunk-1f0c….json         the listing
    <url>/stages/chunk-1f0c…/5d1e…/…      the files of one upload
"""

from __future__ import annotations

import errno
import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from .cache import digest
from .components import Model
from .errors import ConfigError, UnreachableError

__all__ = ["DamagedStage", "SharedFile", "SharedStages", "StageListing", "check_store_url"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


class SharedFile(Model):
    """A file of an uploaded stage."""

    path: str
    """Below the upload's folder, with slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Of its bytes."""


class StageListing(Model):
    """What an uploaded stage consists of; written last."""

    schema_version: int = 1
    """Of this listing."""
    key: str
    """The stage's whole key."""
    upload: str
    """Name of the folder with the files."""
    seconds: float
    """What building took, where it was built."""
    folders: tuple[str, ...]
    """Folders of the stage, also empty ones, which object stores do not have."""
    files: tuple[SharedFile, ...]
    """All files."""


class DamagedStage(Exception):
    """What lies at the URL is not what was uploaded; the message says in which way."""


def check_store_url(url: str) -> None:
    """Checks a store's address; no message repeats it, for it may hold a password.

    Raises:
        ValueError: It is no URL, or holds a password or a query.
    """
    parts = urlsplit(url)
    if "://" not in url or "::" in url or not parts.scheme or not (parts.netloc or parts.path.strip("/")):
        raise ValueError(
            "expected a URL that fsspec knows, for instance s3://bucket/prefix or file:///mnt/share/stages"
        )
    if parts.scheme in ("file", "local") and (parts.netloc or not parts.path.startswith("/")):
        raise ValueError("a file:// URL needs an absolute path: three slashes, as in file:///mnt/share/stages")
    if parts.password or parts.query:
        raise ValueError(
            "the URL holds a password or a query; leave credentials to the environment variables and files that the "
            "fsspec package of that protocol reads"
        )


class SharedStages:
    """Finished stages at one URL.

    Attributes:
        url: The address.
        name: A short name of the address, for a folder.
    """

    def __init__(self, url: str) -> None:
        """Takes the address; nothing is asked yet.

        Args:
            url: As fsspec knows it. Credentials come from where its package looks for them.

        Raises:
            ValueError: It is no URL, or holds a password or a query.
        """
        check_store_url(url)
        self.url = url.rstrip("/")
        self.name = digest(self.url)[:12]
        self._found: dict[str, StageListing] = {}
        self._damaged: set[str] = set()

    def find(self, name: str, key: str) -> StageListing | None:
        """The listing of an uploaded stage; None where there is none, or it was found damaged.

        Args:
            name: Name of the stage's folder.
            key: The stage's whole key.

        Raises:
            UnreachableError: The URL cannot be read.
        """
        if name in self._damaged:
            return None
        if name not in self._found:
            try:
                with self._asking("read"):
                    data = self._files.cat_file(self._place(f"{name}.json"))
            except FileNotFoundError:
                return None
            try:
                listing = StageListing.model_validate_json(data)
                if listing.key != key or not _stays_below(listing):
                    raise ValueError("another stage's listing")
            except (ValidationError, ValueError):
                self._damaged.add(name)  # half-written, or not ours: uploaded anew
                return None
            self._found[name] = listing
        return self._found[name]

    def fetch(self, name: str, into: Path) -> None:
        """Downloads a stage that `find` found, and compares each file with its listing.

        Args:
            name: Name of the stage's folder.
            into: An empty folder.

        Raises:
            DamagedStage: A file is missing or another one.
            UnreachableError: The URL cannot be read.
            OSError: The disk is full.
        """
        listing = self._found[name]
        for folder in listing.folders:
            (into / folder).mkdir(parents=True, exist_ok=True)
        try:
            for file in listing.files:
                target = into / file.path
                try:
                    with self._asking("read"):
                        self._files.get_file(self._place(name, listing.upload, file.path), str(target))
                except FileNotFoundError:
                    raise DamagedStage(f"{file.path} is missing") from None
                size = target.stat().st_size
                if size != file.size:
                    raise DamagedStage(f"{file.path} has {size:,} bytes in place of {file.size:,}")
                if _sha256(target) != file.sha256:
                    raise DamagedStage(f"{file.path} has other contents than were uploaded")
        except DamagedStage:
            self._damaged.add(name)
            del self._found[name]
            raise

    def push(self, name: str, key: str, seconds: float, folder: Path) -> bool:
        """Uploads a finished stage, unless it is there.

        Args:
            name: Name of the stage's folder.
            key: The stage's whole key.
            seconds: What building took.
            folder: The stage's files.

        Returns:
            Whether it was uploaded.

        Raises:
            UnreachableError: The URL cannot be written.
        """
        if self.find(name, key) is not None:
            return False
        inside = sorted(folder.rglob("*"))
        files = [(path, path.relative_to(folder).as_posix()) for path in inside if path.is_file()]
        listing = StageListing(
            key=key,
            upload=uuid.uuid4().hex,
            seconds=seconds,
            folders=tuple(path.relative_to(folder).as_posix() for path in inside if path.is_dir()),
            files=tuple(SharedFile(path=at, size=path.stat().st_size, sha256=_sha256(path)) for path, at in files),
        )
        with self._asking("written"):
            for path, at in files:
                target = self._place(name, listing.upload, at)
                self._make_parent(target)
                self._files.put_file(str(path), target)
            self._make_parent(self._place(f"{name}.json"))
            self._files.pipe_file(self._place(f"{name}.json"), listing.model_dump_json(indent=1).encode())
        self._damaged.discard(name)
        self._found[name] = listing
        return True

    def probe(self) -> None:
        """Looks whether the URL answers.

        Raises:
            UnreachableError: It does not.
        """
        self.find("probe", "")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path of the stages on it."""
        import fsspec

        scheme = urlsplit(self.url).scheme
        try:
            files, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise ConfigError(
                f"runtime.store_url: a further package is needed for {scheme}:// ({_first_line(error)})"
            ) from error
        except ValueError as error:
            raise ConfigError(f"runtime.store_url: {_first_line(error)}; correct the URL {self.url}") from error
        _check_mounted(files, root)
        return files, root.rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    def _place(self, *parts: str) -> str:
        return "/".join([self._opened[1], "stages", *parts])

    def _make_parent(self, path: str) -> None:
        # Others make folders themselves, or have none; asked to, S3 would make a bucket that is misspelt.
        if _is_local(self._files):
            _check_mounted(*self._opened)
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _asking(self, done: str) -> Iterator[None]:
        """Makes one sentence of whatever a file system raises; a file that is not there stays FileNotFoundError."""
        try:
            yield
        except (ConfigError, UnreachableError):
            raise
        except Exception as error:  # the packages behind fsspec share no base class of errors
            if done == "read":
                if isinstance(error, FileNotFoundError):
                    raise
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise  # this machine's disk: the store says what that means
            raise UnreachableError(
                f"runtime.store_url: {self.url} cannot be {done} ({_first_line(error)}). Correct the address or the "
                "credentials, or leave runtime.store_url out; what is finished is kept here, so run the same command "
                "again"
            ) from error


def _is_local(files: Any) -> bool:
    return "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)


def _check_mounted(files: Any, root: str) -> None:
    """Else a share that is not mounted would be a folder of this machine's own disk, and nobody would notice."""
    if _is_local(files) and not files.isdir(root):
        raise UnreachableError(
            f"runtime.store_url: no folder {root}; mount the share, or make the folder, and run the same command again"
        )


def _stays_below(listing: StageListing) -> bool:
    paths = [*(file.path for file in listing.files), *listing.folders, listing.upload]
    return all(path and not PurePosixPath(path).is_absolute() and ".." not in path.split("/") for path in paths)


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
