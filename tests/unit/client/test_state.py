"""`UploadOptions.journal`: which uploads are recorded."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from brolga.client import UploadOptions
from brolga.errors import SpoolRequired
from brolga.images import InMemoryBlob, StoredBlob
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository
from brolga.stores.journal import INTERVAL
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.spec.blob import Blob

REPOSITORY = Repository("registry.example", "team/app")
LAYER = StreamLayer([b"data"])


def stored(size: int) -> StoredBlob:
    """Return a blob of a store."""
    return StoredBlob(
        Descriptor("text/plain", Digest.of(b"data"), size), InMemoryBlob(b"data", "a/b").open
    )


@pytest.mark.parametrize(
    ("blob", "spool", "is_reopenable"),
    [
        (LAYER, False, True),
        (LAYER, True, False),
        (LAYER, "/tmp", False),  # noqa: S108 - nothing is written there
        (stored(INTERVAL), False, True),
    ],
    ids=["file", "spool", "spool in a directory", "blob of a store"],
)
def test_upload_that_can_begin_anew_is_recorded(
    tmp_path: Path, blob: Blob, spool: Any, *, is_reopenable: bool
) -> None:
    """Each has a journal in the directory."""
    options = UploadOptions(state=tmp_path / "state", spool=spool)
    journal = options.journal(REPOSITORY, blob, is_reopenable=is_reopenable)
    assert journal is not None
    with closing(journal):
        assert len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize(
    ("blob", "has_state"), [(LAYER, False), (stored(INTERVAL - 1), True)], ids=["none", "small"]
)
def test_upload_is_not_recorded_without_a_directory_or_a_use(
    tmp_path: Path, blob: Blob, *, has_state: bool
) -> None:
    """No digest would confirm the bytes of a small blob."""
    options = UploadOptions(state=tmp_path / "state" if has_state else None)
    assert options.journal(REPOSITORY, blob, is_reopenable=False) is None
    assert not (tmp_path / "state").exists()


def test_upload_of_what_is_read_once_needs_a_spool(tmp_path: Path) -> None:
    """It might have to begin anew, and its bytes would be gone."""
    options = UploadOptions(state=tmp_path / "state")
    with pytest.raises(SpoolRequired, match="with --spool"):
        options.journal(REPOSITORY, LAYER, is_reopenable=False)
