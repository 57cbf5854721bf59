"""attributes.py: owner, mode, time and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path

import pytest
from tests.extracted import extract
from tests.tars import entry, symlink, tar

from brolga.errors import CorruptBlob, ExtractionError
from brolga.extract import ExtractOptions

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chown(2) needs root")
CAPABILITY = "security.capability"
# Version 2 of vfs_cap_data, with cap_net_bind_service.
NET_BIND = bytes.fromhex("0100000200040000000000000000000000000000").decode()


def with_pax(name: str, **records: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, pax_headers={key.replace("__", "."): text for key, text in records.items()})


def xattrs(name: str, **values: str) -> tuple[tarfile.TarInfo, bytes]:
    records = {f"SCHILY.xattr.{key.replace('__', '.')}": text for key, text in values.items()}
    return entry(name, pax_headers=records)


def test_mode_does_not_depend_on_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        extract(tmp_path, tar(entry("a", mode=0o666), entry("d/", mode=0o1777), "e/x"))
    finally:
        os.umask(old)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "d", "e")}
    assert modes == {"a": 0o666, "d": 0o1777, "e": 0o755}


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_setuid_and_setgid_are_cleared_unless_allowed(tmp_path: Path, mode: int) -> None:
    layer = tar(entry("a", mode=mode), entry("b", mode=mode), entry("d/", mode=mode))
    (warning,) = extract(tmp_path / "cleared", layer)
    assert warning.endswith(
        "the setuid and setgid bits and capabilities of 'a' and of 2 more are left out"
    )
    assert extract(tmp_path / "kept", layer, setuid=True) == []
    for name in ("a", "b", "d"):
        assert stat.S_IMODE((tmp_path / "cleared" / name).stat().st_mode) == 0o755
        assert stat.S_IMODE((tmp_path / "kept" / name).stat().st_mode) == mode


@needs_root
def test_capability_is_left_out_unless_allowed(tmp_path: Path) -> None:
    """It gives a program the rights of root, as setuid does."""
    layer = tar(xattrs("a", security__capability=NET_BIND))
    (warning,) = extract(tmp_path / "cleared", layer)
    assert "capabilities of 'a' are left out" in warning
    assert os.listxattr(tmp_path / "cleared/a") == []
    assert extract(tmp_path / "kept", layer, setuid=True) == []
    assert os.getxattr(tmp_path / "kept/a", CAPABILITY) == NET_BIND.encode()


def test_times_have_nanoseconds_and_may_be_before_1970(tmp_path: Path) -> None:
    """POSIX pax: mtime is a decimal number of seconds."""
    records = {"a": "1.000000002", "b": "-1.5", "c": "3.", "d": "12345678901.1234567899"}
    extract(tmp_path, tar(*(with_pax(name, mtime=text) for name, text in records.items())))
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in records}
    assert times == {
        "a": 1_000_000_002,
        "b": -1_500_000_000,
        "c": 3_000_000_000,
        "d": 12345678901_123456789,
    }


def test_symbolic_link_has_time_of_its_own(tmp_path: Path) -> None:
    extract(tmp_path, tar(entry("a", mtime=1), entry("l", type=b"2", linkname="a", mtime=2)))
    assert (tmp_path / "a").stat().st_mtime == 1
    assert (tmp_path / "l").lstat().st_mtime == 2


@pytest.mark.parametrize("text", ["x", "1.x", "1e3", "9" * 20])
def test_time_that_is_not_valid_is_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptBlob, match=r"entry 'a': .*(not a time|time out of range)"):
        extract(tmp_path, tar(with_pax("a", mtime=text)))


def test_time_out_of_range_is_error(tmp_path: Path) -> None:
    layer = tar(entry("a", mtime=2**62 + 1), form=tarfile.GNU_FORMAT)
    with pytest.raises(CorruptBlob, match="entry 'a': a time out of range"):
        extract(tmp_path, layer)


# Owners ------------------------------------------------------------------------------------------


@needs_root
def test_root_keeps_owners(tmp_path: Path) -> None:
    layer = tar(
        entry("a", uid=5, gid=6),
        entry("d/", uid=7, gid=8),
        entry("l", type=b"2", linkname="/etc/passwd", uid=9, gid=10),
        entry("f", type=b"6", uid=11, gid=12),
        entry("big", uid=4_000_000_000, gid=3_000_000_000),
        "e/x",
    )
    before = Path("/etc/passwd").stat()
    extract(tmp_path, layer)
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in tmp_path.iterdir()}
    assert owners == {
        "a": (5, 6),
        "d": (7, 8),
        "l": (9, 10),
        "f": (11, 12),
        "big": (4_000_000_000, 3_000_000_000),
        "e": (0, 0),
    }
    assert Path("/etc/passwd").stat() == before


def test_user_gets_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    extract(tmp_path, tar(entry("a", uid=5, gid=6), entry("b", uid=2**40)))
    assert (tmp_path / "a").stat().st_uid == os.getuid()


@needs_root
def test_mapped_owner_gets_all_files(tmp_path: Path) -> None:
    layer = tar(entry("a", uid=5, gid=6), symlink("l", "a"), "d/x")
    extract(tmp_path, layer, map_owner=(1234, 5678))
    for name in ("a", "l", "d", "d/x"):
        status = (tmp_path / name).lstat()
        assert (status.st_uid, status.st_gid) == (1234, 5678)


def test_owner_that_cannot_be_set_is_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchown(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.fchown", fchown)
    with pytest.raises(ExtractionError, match="entry 'a': the owner 0:0 cannot be set") as caught:
        extract(tmp_path, tar("a"), map_owner=(0, 0))
    assert "--map-owner" in caught.value.hint


@needs_root
@pytest.mark.parametrize("uid", ["-1", "4294967295", "x", "1" * 20])
def test_owner_that_is_not_valid_is_error(tmp_path: Path, uid: str) -> None:
    """-1 means "unchanged" in chown(2), so it would be the owner of who extracts."""
    with pytest.raises(CorruptBlob, match="is not the number of a user or group"):
        extract(tmp_path, tar(with_pax("a", uid=uid)))


def test_mapped_owner_that_is_not_valid_is_error() -> None:
    with pytest.raises(ExtractionError, match="numbers from 0 to 4294967294"):
        ExtractOptions(map_owner=(0, 2**32 - 1))


# Extended attributes -----------------------------------------------------------------------------


def test_user_xattrs_are_set_on_files_and_directories(tmp_path: Path) -> None:
    """Even if the mode forbids its owner to write."""
    file, directory = xattrs("a", user__x="1", user__empty=""), xattrs("d/", user__y="2")
    file[0].mode = 0o444
    assert extract(tmp_path, tar(file, directory)) == []
    assert os.getxattr(tmp_path / "a", "user.x") == b"1"
    assert os.getxattr(tmp_path / "a", "user.empty") == b""
    assert os.getxattr(tmp_path / "d", "user.y") == b"2"


@pytest.mark.parametrize("before", [(), ("d/x",)], ids=["first", "after its content"])
def test_directory_of_upper_layer_has_its_own_xattrs_alone(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    extract(tmp_path, tar(xattrs("d/", user__x="1")), tar(*before, xattrs("d/", user__y="2")))
    assert os.listxattr(tmp_path / "d") == ["user.y"]


def test_xattrs_that_are_not_for_an_image_are_left_out(tmp_path: Path) -> None:
    """Overlayfs would take some for its own; labels are of the machine that built the image."""
    layer = tar(
        xattrs(
            "a",
            trusted__overlay__opaque="y",
            user__overlay__redirect="/x",
            security__selinux="label",
            trusted__x="1",
        ),
        entry("l", type=b"2", linkname="a", pax_headers={"SCHILY.xattr.user.x": "1"}),
    )
    texts = [text.partition(": ")[2] for text in extract(tmp_path, layer)]
    assert [text.split(",")[0] for text in texts] == [
        "'a' has the extended attribute 'trusted.overlay.opaque'",
        "'a' has the extended attribute 'user.overlay.redirect'",
        "'a' has the extended attribute 'trusted.x'",
        "'l' has the extended attribute 'user.x'",
    ]
    assert os.listxattr(tmp_path / "a") == []


def test_xattr_that_cannot_be_set_is_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def setxattr(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("os.setxattr", setxattr)
    (warning,) = extract(tmp_path, tar(xattrs("a", user__x="1")))
    assert "the extended attribute 'user.x' of 'a' cannot be set: Operation not sup" in warning
