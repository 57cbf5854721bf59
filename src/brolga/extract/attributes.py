"""Owner, mode, times and extended attributes of an entry, and how a file gets them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from brolga.errors import CorruptBlob, ExtractionError
from brolga.spec.value import Value, field
from brolga.tar.reader import FILE
from brolga.tar.reader import printable_name as printable

if TYPE_CHECKING:
    from brolga.extract.options import ExtractOptions
    from brolga.extract.report import Report
    from brolga.tar.entries import Entry

_MODE: Final = 0o7777
_RIGHTS_OF_OTHERS: Final = stat.S_ISUID | stat.S_ISGID
_MAX_ID: Final = 2**32 - 2  # the next one means "unchanged" in chown(2)
_ID: Final = rb"[0-9]{1,19}"
_TIME: Final = rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?"
_MAX_TIME: Final = 2**62  # seconds; file systems have narrower bounds, and cut at them
_XATTR: Final = b"SCHILY.xattr."
_CAPABILITY: Final = b"security.capability"
_ACLS: Final = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})
# What overlayfs would read as its own, if the directory became one of its layers.
_OVERLAYFS: Final = (b"user.overlay.", b"trusted.overlay.")
# Labels of the machine that built the image. No other reader sets them either.
_LABELS: Final = (b"security.selinux", b"security.ima", b"security.evm")


class Attributes(Value):
    """What a file gets besides its content. `owner` None leaves it to the user who extracts."""

    mode: int
    mtime_ns: int | None
    owner: tuple[int, int] | None = None
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)


class AttributeReader:
    """Reads the attributes of entries, as far as the options and the user's rights allow."""

    def __init__(self, options: ExtractOptions, report: Report) -> None:
        self._mapped = options.map_owner
        self._keeps_owner = os.geteuid() == 0
        self._setuid = options.setuid
        self._report = report
        self._cleared = 0  # entries that lost rights
        self._first_cleared = b""

    def read(self, entry: Entry) -> Attributes:
        """Return the attributes of an entry. Raises CorruptBlob for numbers out of range."""
        meta, records = entry.metadata, entry.records
        mode = meta.mode & _MODE
        if mode & _RIGHTS_OF_OTHERS and not self._setuid:
            mode &= ~_RIGHTS_OF_OTHERS
            self._count_cleared(entry)
        seconds = records.get(b"mtime") if records else None
        mtime_ns = _parse_time(seconds) if seconds else meta.mtime * 10**9
        if abs(mtime_ns) > _MAX_TIME * 10**9:
            raise CorruptBlob("a time out of range")
        xattrs = self._read_xattrs(entry) if records else {}
        return Attributes(mode, mtime_ns, self._owner(entry), xattrs)

    @property
    def implied(self) -> Attributes:
        """The attributes of a directory that has no entry."""
        return Attributes(0o755, None, self._mapped or ((0, 0) if self._keeps_owner else None))

    def report_cleared(self) -> None:
        """Report the entries without their setuid and setgid bits and file capabilities."""
        if self._cleared:
            more = f" and of {self._cleared - 1} more" if self._cleared > 1 else ""
            self._report.warn(
                f"the setuid and setgid bits and capabilities of {printable(self._first_cleared)}"
                f"{more} are left out"
            )

    def _count_cleared(self, entry: Entry) -> None:
        self._first_cleared = self._first_cleared or entry.name
        self._cleared += 1

    def _owner(self, entry: Entry) -> tuple[int, int] | None:
        if self._mapped is not None or not self._keeps_owner:
            return self._mapped
        uid = _parse_id(entry.records.get(b"uid"), entry.metadata.uid)
        gid = _parse_id(entry.records.get(b"gid"), entry.metadata.gid)
        return uid, gid

    def _read_xattrs(self, entry: Entry) -> dict[bytes, bytes]:
        xattrs = {
            key.removeprefix(_XATTR): value
            for key, value in entry.records.items()
            if key.startswith(_XATTR)
        }
        return {name: xattrs[name] for name in xattrs if self._is_allowed(name, entry)}

    def _is_allowed(self, name: bytes, entry: Entry) -> bool:
        """Return whether to set an extended attribute, and report it if not."""
        if name.startswith(_LABELS):
            return False
        is_usual = name.startswith(b"user.") or name in _ACLS or name == _CAPABILITY
        if not is_usual or name.startswith(_OVERLAYFS):
            reason = "which is not for an image to set"
        elif name == _CAPABILITY and not self._setuid:
            self._count_cleared(entry)
            return False
        elif not (entry.is_directory or entry.kind == FILE):
            reason = "which only files and directories have"
        else:
            return True
        self._report.warn(
            f"{printable(entry.name)} has the extended attribute {printable(name)}, {reason}: it "
            "is left out"
        )
        return False


def set_attributes(descriptor: int, attributes: Attributes, path: bytes, report: Report) -> None:
    """Give an open file or directory its attributes, and report an xattr that cannot be set."""
    if attributes.owner is not None:
        with _owner_error(attributes.owner):
            os.fchown(descriptor, *attributes.owner)
    # Before the mode, which may forbid it; after the owner, whose change drops capabilities.
    if attributes.xattrs:
        set_xattrs(descriptor, attributes, path, report)
    os.fchmod(descriptor, attributes.mode)
    if attributes.mtime_ns is not None:
        os.utime(descriptor, ns=(attributes.mtime_ns, attributes.mtime_ns))


def set_xattrs(descriptor: int, attributes: Attributes, path: bytes, report: Report) -> None:
    """Set the extended attributes of an open file or directory; report one that cannot be set."""
    for name, value in attributes.xattrs.items():
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            report.warn(
                f"the extended attribute {printable(name)} of {printable(path)} cannot be set: "
                f"{error.strerror}"
            )


def clear_xattrs(descriptor: int) -> None:
    """Remove the extended attributes that a lower layer gave to a directory."""
    with suppress(OSError):  # a file system without them
        for name in map(os.fsencode, os.listxattr(descriptor)):
            if name.startswith(b"user.") or name in _ACLS:
                os.removexattr(descriptor, name)


def set_link_attributes(directory: int, name: bytes, attributes: Attributes) -> None:
    """Give a symbolic link, or a file that cannot be opened, its owner and time."""
    if attributes.owner is not None:
        with _owner_error(attributes.owner):
            os.chown(name, *attributes.owner, dir_fd=directory, follow_symlinks=False)
    if attributes.mtime_ns is not None:
        times = attributes.mtime_ns, attributes.mtime_ns
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)


@contextmanager
def _owner_error(owner: tuple[int, int]) -> Iterator[None]:
    """Raise ExtractionError if an owner cannot be set, as in a user namespace that lacks it."""
    try:
        yield
    except OSError as error:
        raise ExtractionError(
            f"the owner {owner[0]}:{owner[1]} cannot be set: {error.strerror}",
            hint="--map-owner UID:GID gives all files to one owner",
        ) from error


def _parse_id(record: bytes | None, number: int) -> int:
    """Return the number of a user or group. Raises CorruptBlob if it is not one."""
    if record is not None:
        if not re.fullmatch(_ID, record):
            raise CorruptBlob(f"{printable(record)} is not the number of a user or group")
        number = int(record)
    if not 0 <= number <= _MAX_ID:
        raise CorruptBlob(f"{number} is not the number of a user or group")
    return number


def _parse_time(record: bytes) -> int:
    """Return a time of a pax record in nanoseconds. Raises CorruptBlob if it is not valid."""
    match = re.fullmatch(_TIME, record)
    if match is None:
        raise CorruptBlob(f"{printable(record)} is not a time")
    sign, seconds, fraction = match.groups(b"")
    nanoseconds = int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds
