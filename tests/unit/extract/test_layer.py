"""layer.py: one layer over those below it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from tests.extracted import extract, files_in
from tests.tars import entry, layer, link, symlink, tar

from brolga.errors import CorruptBlob, ExtractionError, LayerError
from brolga.extract import ExtractOptions, extract_layers
from brolga.images.layer_notes import LayerWarning

if TYPE_CHECKING:
    from pathlib import Path

FIFO, CHARACTER = b"6", b"3"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory that is not there yet."""
    return tmp_path / "new" / "root"


# What hides what ---------------------------------------------------------------------------------


def test_upper_layer_replaces_files_and_keeps_others(root: Path) -> None:
    """Later layers are applied over earlier ones (layer.md, Applying Changesets)."""
    below = tar(entry("a", b"old"), entry("b", b"kept"), symlink("l", "a"), "d/", "d/x")
    above = tar(entry("a", b"new"), entry("l", b"file"), entry("d", b"file"))
    assert extract(root, below, above) == []
    assert files_in(root) == {"a": b"new", "b": b"kept", "l": b"file", "d": b"file"}


def test_directory_is_merged_and_gets_attributes_of_upper_layer(root: Path) -> None:
    below = tar(entry("d/", mode=0o700, mtime=1), "d/a")
    extract(root, below, tar(entry("d/", mode=0o750, mtime=7), "d/b"))
    assert files_in(root) == {"d": None, "d/a": b"", "d/b": b""}
    status = (root / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o750, 7)


def test_directory_without_entry_keeps_mode_and_time_of_lower_layer(root: Path) -> None:
    """A file in a directory is no change of the directory: it has no entry."""
    extract(root, tar(entry("d/", mode=0o710, mtime=5)), tar("d/a"), tar("d/.wh.a"))
    status = (root / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o710, 5)
    assert files_in(root) == {"d": None}


def test_directory_without_any_entry_has_mode_755(root: Path) -> None:
    extract(root, tar("d/e/a"))
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "d/e")} == {0o755}


@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
@pytest.mark.parametrize("mark", ["d/.wh.x", "d/.wh..wh..opq", ".wh.d"])
def test_whiteout_hides_lower_layers_alone(root: Path, mark: str, order: int) -> None:
    """Its place in the layer does not matter (layer.md, Whiteouts)."""
    below = tar("d/", entry("d/x", b"old"), "d/x2/y/", symlink("d/l", "x"))
    above = [entry(mark), entry("d/x", b"new"), entry("d/x2/")][::order]
    extract(root, below, tar(*above))
    kept = {"d/l": "x", "d/x2/y": None} if mark == "d/.wh.x" else {}
    assert files_in(root) == {"d": None, "d/x": b"new", "d/x2": None, **kept}


def test_whiteout_of_directory_removes_all_below_it(root: Path) -> None:
    extract(root, tar("d/a/b/c", "e"), tar(".wh.d", ".wh.missing", "no/.wh.x"))
    assert files_in(root) == {"e": b""}


def test_directory_that_whiteout_keeps_has_nothing_of_lower_layer(root: Path) -> None:
    below = tar(entry("d/", mode=0o700, mtime=5, pax_headers={"SCHILY.xattr.user.a": "b"}), "d/a")
    extract(root, below, tar("d/b", ".wh.d"))
    assert files_in(root) == {"d": None, "d/b": b""}
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o755
    assert os.listxattr(root / "d") == []


def test_whiteout_in_file_of_same_layer_hides_nothing(root: Path) -> None:
    extract(root, tar("d/x"), tar("d", "d/.wh.x"))
    assert files_in(root) == {"d": b""}


def test_names_of_aufs_are_ignored(root: Path) -> None:
    extract(root, tar("a", ".wh..wh.plnk/x", ".wh..wh.aufs"))
    assert files_in(root) == {"a": b""}


# Links -------------------------------------------------------------------------------------------


def test_symbolic_link_of_same_layer_leads_on(root: Path) -> None:
    """As readers do that extract the layer into a directory of its own."""
    extract(root, tar("usr/lib/", symlink("lib", "/usr/lib"), entry("lib/x", b"x")))
    assert files_in(root) == {"usr": None, "usr/lib": None, "usr/lib/x": b"x", "lib": "/usr/lib"}


@pytest.mark.parametrize("name", ["lib/x", "lib/.wh.x", "lib/.wh..wh..opq"])
def test_link_of_lower_layer_becomes_directory_with_warning(root: Path, name: str) -> None:
    """Overlayfs shows a directory in the place of the link, and nothing is written through it."""
    below, above = tar("usr/lib/", "usr/lib/x", symlink("lib", "usr/lib")), tar(name)
    (warning,) = extract(root, below, above)
    assert "layer 2 of 2, sha256:" in warning
    assert "'lib' is a symbolic link to 'usr/lib' in a layer below" in warning
    assert files_in(root).keys() - {"lib/x"} == {"usr", "usr/lib", "usr/lib/x", "lib"}
    assert files_in(root)["lib"] is None
    with pytest.raises(LayerError, match="Readers differ"):
        extract(root.parent / "strict", below, above, strict=True)


def test_file_of_lower_layer_becomes_directory_with_warning(root: Path) -> None:
    (warning,) = extract(root, tar("a"), tar("a/b"))
    assert "'a' is not a directory in a layer below" in warning
    assert files_in(root) == {"a": None, "a/b": b""}


def test_directory_entry_replaces_link_of_lower_layer_without_warning(root: Path) -> None:
    assert extract(root, tar(symlink("lib", "usr/lib")), tar("lib/", "lib/x"), strict=True) == []
    assert files_in(root) == {"lib": None, "lib/x": b""}


def test_hard_links_share_file_of_same_and_of_lower_layer(root: Path) -> None:
    extract(root, tar(entry("a", b"a"), link("b", "./a")), tar(link("d/c", "a")))
    assert files_in(root) == {"a": b"a", "b": b"a", "d": None, "d/c": b"a"}
    assert (root / "a").stat().st_nlink == 3


def test_replaced_file_is_not_written_through_hard_link(root: Path) -> None:
    extract(root, tar(entry("a", b"old"), link("b", "a")), tar(entry("a", b"new")))
    assert files_in(root) == {"a": b"new", "b": b"old"}


def test_hard_link_to_symbolic_link_is_one(root: Path) -> None:
    extract(root, tar("d/", symlink("l", "d"), link("m", "l"), "m/x"))
    assert files_in(root) == {"d": None, "d/x": b"", "l": "d", "m": "d"}


@pytest.mark.parametrize(
    ("tars", "text"),
    [
        ([tar(link("b", "a"))], "points to 'a', which is not there"),
        ([tar(link("b", "a/c"))], "points to 'a/c', which is not there"),
        ([tar("a/", link("b", "a"))], "points to 'a', a directory"),
        ([tar("a/"), tar(link("b", "a"))], "points to 'a', a directory"),
        ([tar(link("a", "a"))], "points to itself"),
        ([tar("a/b"), tar(link("a", "a/b"))], "'a' points to what is in it"),
        ([tar("a", link("b", "a"), "a")], "comes after a hard link"),
        ([tar("a"), tar(link("b", "a"), ".wh.a")], "'a' is removed or replaced"),
        ([tar("d/a"), tar(link("b", "d/a"), "d")], "'d' is removed or replaced"),
        ([tar("d/a"), tar(link("b", "d/a"), "d/.wh..wh..opq")], "'d' is removed or replaced"),
        ([tar(symlink("a", "x")), tar(link("b", "a"), "a/c")], "'a' is removed or replaced"),
        ([tar("a"), tar(".wh.a", link("b", "a"))], "points to 'a', which is not there"),
        ([tar("a", "a/b")], "'a' is both a directory and something else"),
        ([tar("a/b", "a")], "'a' is both a directory and something else"),
        ([tar("a", "a/")], "'a' is both a directory and something else"),
        ([tar(entry(".", type=b"2", linkname="x"))], "the root is not a directory"),
        ([tar(symlink("a", ""))], "'a' has no target"),
        ([tar("../a")], "leads upwards"),
        ([tar(symlink("a", "a"), "a/b")], "more than 40 symbolic links"),
        ([tar("d/.wh.")], "names nothing"),
        ([tar(".brolga-extract")], "the name of the file that records the extraction"),
        ([tar(symlink("a", "."), "a/.brolga-extract/x")], "the name of the file that records"),
        ([tar(link("a", ".brolga-extract"))], "the name of the file that records"),
    ],
    ids=range(23),
)
def test_entry_on_which_readers_differ_is_error(root: Path, tars: list[bytes], text: str) -> None:
    with pytest.raises(LayerError, match=r"^layer \d of \d, sha256:\w+, entry '") as caught:
        extract(root, *tars)
    assert text in str(caught.value)


@pytest.mark.parametrize("mark", [".wh..brolga-extract", ".wh..wh..opq"])
def test_whiteout_does_not_remove_record_of_extraction(root: Path, mark: str) -> None:
    extract(root, tar("a"), tar(mark), tar("b"))
    assert files_in(root).keys() - {"a"} == {"b"}


def test_memory_for_names_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brolga.extract.names._MAX_MEMORY", 1000)
    with pytest.raises(LayerError, match="take more than 1000 bytes of memory"):
        extract(root, tar(*(f"d/{number}" for number in range(10))))
    with pytest.raises(LayerError, match="take more than 1000 bytes of memory"):
        extract(root.parent / "links", tar(symlink("a", "b" * 901)))


# Special files, selection, errors ----------------------------------------------------------------


def test_fifo_gets_mode_and_time(root: Path) -> None:
    extract(root, tar(entry("f", type=FIFO, mode=0o622, mtime=9)))
    status = (root / "f").lstat()
    assert stat.S_ISFIFO(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o622, 9)


def test_device_is_left_out_with_links_to_it_and_hides_lower_file(root: Path) -> None:
    device = entry("d/null", type=CHARACTER, devmajor=1, devminor=3)
    warnings = extract(root, tar("d/null"), tar(device, link("e", "d/null"), link("f", "e")))
    assert files_in(root) == {"d": None}
    assert [text.partition(": ")[2] for text in warnings] == [
        "'d/null' is a device node: it is left out",
        "'e' is a hard link to 'd/null', which is left out: it is left out",
        "'f' is a hard link to 'e', which is left out: it is left out",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="mknod(2) of a device needs root")
def test_device_is_created_if_allowed(root: Path) -> None:
    extract(root, tar(entry("null", type=CHARACTER, devmajor=1, devminor=3)), devices=True)
    status = (root / "null").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == os.makedev(1, 3)


def test_only_selected_paths_are_extracted(root: Path) -> None:
    below = tar(entry("usr/", mode=0o711), "usr/bin/a", "usr/bin/b", "usr/x", "etc/e", "top")
    extract(root, below, tar("usr/bin/.wh.b"), only=("/usr/bin/", "./top"))
    assert files_in(root) == {"usr": None, "usr/bin": None, "usr/bin/a": b"", "top": b""}
    assert stat.S_IMODE((root / "usr").stat().st_mode) == 0o711


def test_selection_of_root_is_everything(root: Path) -> None:
    extract(root, tar("a", "b/c"), only=("/",))
    assert files_in(root) == {"a": b"", "b": None, "b/c": b""}


def test_selected_path_that_is_not_there_is_error(root: Path) -> None:
    with pytest.raises(LayerError, match="the image has nothing at 'b'") as caught:
        extract(root, tar("a"), only=("b",))
    assert "--clean" in caught.value.hint


def test_selected_path_below_link_is_explained(root: Path) -> None:
    layers = [layer(tar("usr/lib/x", symlink("lib", "usr/lib")))]
    options = ExtractOptions(only=("lib/x",))
    with (
        pytest.warns(LayerWarning, match="'lib' is a symbolic link to 'usr/lib': no path below"),
        pytest.raises(LayerError, match="nothing at 'lib/x'"),
    ):
        extract_layers(layers, root, options)


def test_hard_link_to_path_that_is_not_selected_is_error(root: Path) -> None:
    with pytest.raises(LayerError, match="which is not there") as caught:
        extract(root, tar("a", link("b", "a")), only=("b",))
    assert caught.value.hint == "extract that path too"


def test_name_too_long_for_file_system_is_error_with_entry(root: Path) -> None:
    name = "n" * 300
    with pytest.raises(ExtractionError, match=r"layer 1 of 1, .*, entry 'nnn.*File name too long"):
        extract(root, tar(name))


def test_layer_that_is_not_tar_is_error_with_layer(root: Path) -> None:
    with pytest.raises(CorruptBlob, match=r"^layer 2 of 2, sha256:[0-9a-f]{64}: "):
        extract(root, tar("a"), b"not a tar")
    assert (root / ".brolga-extract").exists()


def test_warnings_are_bounded(root: Path) -> None:
    devices = (entry(f"d{number}", type=CHARACTER) for number in range(102))
    warnings = extract(root, tar(*devices))
    assert len(warnings) == 101
    assert warnings[-1].endswith("there is more to report, which is not named")
