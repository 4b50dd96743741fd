"""Files on object stores (S3 and what else fsspec knows), beside files of this machine. Extra ``bml[s3]``.

Credentials, region and endpoint come from the store's own environment (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``,
``AWS_ENDPOINT_URL``, ...), never from a path or a configuration, and stand in no message.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from bml.config.secret import redact_text
from bml.types import BmlError, ConfigError, DataError, SourceError

#: what a path may begin with
PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "memory", "file")
_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One object: its address, and the file system that opens it."""

    url: str
    disk: RemoteDisk

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def open(self) -> IO[bytes]:
        """For reading, seekable: what is read is fetched, and little more."""
        with self.disk.reached():
            return cast(IO[bytes], self.disk.fs.open(self.url, "rb"))

    def version(self) -> tuple[int, ...]:
        """Changes when the object does."""
        with self.disk.reached():
            return (hash(str(self.disk.fs.ukey(self.url))),)


File = Path | RemoteFile


class Disk(Protocol):
    """What looking for files needs, of this machine or another."""

    def glob(self, pattern: str) -> list[File]:
        """What a pattern names; a path without pattern names itself if it is there."""
        ...

    def is_dir(self, path: File) -> bool: ...

    def children(self, path: File) -> list[File]:
        """Files and folders directly in a folder, sorted by name."""
        ...


class LocalDisk:
    """The files of this machine."""

    def glob(self, pattern: str) -> list[File]:
        found: list[File] = [Path(p) for p in glob.glob(pattern, recursive=True)]
        return [Path(pattern)] if os.path.exists(pattern) else found

    def is_dir(self, path: File) -> bool:
        return Path(str(path)).is_dir()

    def children(self, path: File) -> list[File]:
        return [*sorted(Path(str(path)).iterdir())]


class RemoteDisk:
    """One fsspec file system; listings are kept for as long as it lives."""

    def __init__(self, url: str, protocol: str) -> None:
        self._what = url
        try:
            import fsspec

            self.fs: Any = fsspec.filesystem(protocol)
        except ImportError as error:
            told = f"path: {protocol}:// needs a package that is not installed ({' '.join(str(error).split())})"
            raise ConfigError(f"{told}: run  pip install 'bml[s3]'") from error

    def glob(self, pattern: str) -> list[File]:
        with self.reached():
            if not glob.has_magic(pattern):
                return [self._file(pattern)] if self.fs.exists(pattern) else []
            return [self._file(found) for found in self.fs.glob(pattern)]

    def is_dir(self, path: File) -> bool:
        with self.reached():
            return bool(self.fs.isdir(str(path)))

    def children(self, path: File) -> list[File]:
        with self.reached():
            return sorted((self._file(found) for found in self.fs.ls(str(path), detail=False)), key=str)

    def _file(self, path: str) -> RemoteFile:
        return RemoteFile(str(self.fs.unstrip_protocol(path)).rstrip("/"), self)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """One line, and no secret, whatever the store's library raises."""
        try:
            yield
        except (BmlError, EOFError):
            raise
        except FileNotFoundError as error:
            raise DataError(f"{self._what}: not found: {redact_text(_line(error))}") from error
        except PermissionError as error:
            advice = "check the store's credentials in the environment"
            raise SourceError(f"{self._what}: not permitted ({redact_text(_line(error))}): {advice}") from None
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _LIBRARIES:
                raise
            told = redact_text(_line(error))
            raise SourceError(
                f"{self._what}: cannot be reached: {told}; credentials and endpoint come from the environment"
            ) from None


#: whose errors tell that a store cannot be reached
_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs", "fsspec", "s3fs")


def disk_of(path: str) -> tuple[Disk, str]:
    """Where ``path`` lies, and the path as that place's patterns are written."""
    match = _URL.match(path)
    if match is None:
        return LocalDisk(), os.path.expanduser(path)
    protocol = match[1].lower()
    if protocol not in PROTOCOLS:
        raise ConfigError(f"path: {protocol}:// is none of {', '.join(PROTOCOLS)}; download such files first")
    bucket = path[match.end() :].split("/", 1)[0]
    if "@" in bucket or "?" in path.split("{", 1)[0]:
        raise ConfigError(
            f"path: {protocol}://... holds credentials or a query, which is not shown here: a path is a place only, "
            "credentials come from the environment"
        )
    if protocol == "file":
        return LocalDisk(), path[match.end() :]
    return RemoteDisk(f"{protocol}://{bucket}", protocol), path


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
