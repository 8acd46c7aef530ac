# SPDX-License-Identifier: Apache-2.0
"""Where a download is written: a file, which appears whole or not at all, or a pipe or device, as it comes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_provider_segments.cli._terminal import RawFile, naming

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self))/fd/(\d{1,9})")
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MOST_LINKS = 40


def is_stdout(to: str | None) -> bool:
    """Return whether this is stdout, which has another descriptor while a command runs."""
    return to == "-" or (to is not None and _descriptor_of(to) == 1)


def _descriptor_of(to: str) -> int | None:
    """Return the descriptor, opened by the shell, that a path is another name for."""
    path = to
    for _ in range(_MOST_LINKS):
        path = "/" + os.path.abspath(path).lstrip("/")
        found = _DESCRIPTOR.fullmatch(path)
        if found or path in _STREAMS:
            number = int(found[1]) if found else _STREAMS[path]
            with naming(to):
                # Python's own files are not inheritable, and not meant.
                if not os.get_inheritable(number):
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return number
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            break
    return None


def find_target(to: str | None, name: str) -> Path:
    """Return the path to write to."""
    if to is None:
        return Path(name)
    path = Path(to)
    with naming(to):
        if to and path.is_dir():
            return path / name
        folder = path if os.path.basename(to) in ("", ".", "..") else path.parent
        if to and folder.is_dir():
            return path
    raise NotADirectoryError(
        f"{str(folder) if to else 'An empty --to'} is not a folder. Make it, or give another --to."
    )


def check_target(path: Path, force: bool) -> os.stat_result | None:
    """Return the status of an existing file that may be overwritten; None if there is no file."""
    with naming(path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a folder. Give another --to.")
    if not (force or _is_special(path, found)):
        raise FileExistsError(f"{path} exists. Give --force to overwrite it, or another --to.")
    return found


def _is_special(path: Path, found: os.stat_result | None) -> bool:
    # A descriptor may lead to a regular file, which the shell has opened as the user wants it.
    kept = (stat.S_ISREG, stat.S_ISBLK)
    is_device = found is not None and not any(test(found.st_mode) for test in kept)
    return is_device or _descriptor_of(str(path)) is not None


@contextmanager
def writing(path: Path, force: bool) -> Iterator[RawFile]:
    """Yield the open target."""
    found = check_target(path, force)
    if _is_special(path, found):
        descriptor = _descriptor_of(str(path))
        with RawFile(path if descriptor is None else descriptor, "w", path) as sink:
            yield sink
        return
    real = Path(os.path.realpath(path))  # a link stays
    part = real.with_name(f".{uuid4().hex}.part")
    try:
        with RawFile(part, "x", path, 0o600 if found else 0o666) as sink:
            yield sink
            with naming(path):
                os.fsync(sink.fileno())
        if found := check_target(path, force):
            _keep_owner_and_mode(real, found, part)
        with naming(path):
            part.replace(real)
    finally:
        part.unlink(missing_ok=True)


def _keep_owner_and_mode(real: Path, found: os.stat_result, part: Path) -> None:
    for owner, group in ((-1, found.st_gid), (found.st_uid, -1)):
        with suppress(OSError):  # only root can give a file to another owner
            os.chown(part, owner, group)
    with suppress(OSError):
        shutil.copystat(real, part)
        # As the kernel does when a user writes to the file.
        part.chmod(stat.S_IMODE(found.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))
        os.utime(part)
