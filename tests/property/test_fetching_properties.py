"""fetching: whatever was left, and whatever the source does, no wrong byte is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brolga.errors import CorruptBlob, DigestMismatch, TransportError
from brolga.images import BlockStream
from brolga.images.blobs import verify_blocks
from brolga.spec.digest import Digest
from brolga.stores.fetching import fetch_file
from brolga.stores.layout import Layout
from brolga.stores.store import stored_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.spec.blob import Prefix
    from brolga.spec.descriptor import Descriptor

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DATA = bytes(range(256))
DIGEST = Digest.of(DATA)

# What a run left: a part of the blob, or anything else.
lefts = st.one_of(st.integers(0, len(DATA)).map(lambda size: DATA[:size]), st.binary(max_size=300))
# How each run ends: after so many bytes by a cut, or with a wrong byte at this place.
cuts = st.integers(0, len(DATA)).map(lambda size: ("cut", size))
wrongs = st.integers(0, len(DATA) - 1).map(lambda place: ("wrong", place))
faults = st.lists(cuts | wrongs, max_size=4)


class Source:
    """A store of one blob with one fault in each run."""

    mount_source = None

    def __init__(self) -> None:
        self.fault: tuple[str, int] | None = None
        self.fetched = 0

    def fetch_blob(self, blob: Descriptor | Digest) -> BlockStream:
        return BlockStream(verify_blocks(DIGEST, self._blocks(0)))

    def fetch_rest(self, blob: Descriptor | Digest, prefix: Prefix) -> BlockStream:
        return BlockStream(verify_blocks(DIGEST, self._blocks(prefix.size), prefix))

    def _blocks(self, start: int) -> Iterator[bytes]:
        kind, place = self.fault or ("", 0)
        for number in range(start, len(DATA)):
            if kind == "cut" and number >= place:
                raise TransportError("cut", reason="cut")
            self.fetched += 1
            yield b"x" if kind == "wrong" and number == place else DATA[number : number + 1]


@untimed
@given(left=lefts, faults=faults)
def test_fetch_file_is_right_or_absent_in_every_state(
    left: bytes, faults: list[tuple[str, int]]
) -> None:
    """After any faults, the file has the right bytes, and cuts alone waste no byte."""
    source: Any = Source()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        (path.parent / f".file.{DIGEST.encoded[:16]}.partial").write_bytes(left)
        for fault in (*faults, None):
            assert not path.exists()
            source.fault = fault
            try:
                fetch_file(path, source, DIGEST, print)
            except (CorruptBlob, DigestMismatch):
                assert list(path.parent.iterdir()) == []
            except TransportError:
                pass
            else:
                break
        assert path.read_bytes() == DATA
        assert [each.name for each in path.parent.iterdir()] == ["file"]
    if DATA.startswith(left) and all(kind == "cut" for kind, _ in faults):
        assert source.fetched == len(DATA) - len(left)


@untimed
@given(left=lefts, faults=faults)
def test_layout_push_is_right_or_absent_in_every_state(
    left: bytes, faults: list[tuple[str, int]]
) -> None:
    """As a file of its own, in a layout."""
    from brolga.spec.descriptor import Descriptor

    source = Source()
    descriptor = Descriptor("application/octet-stream", DIGEST, len(DATA))
    with tempfile.TemporaryDirectory() as directory:
        layout = Layout(directory)
        with layout.writing():
            partial = layout.path / ".uploads" / f"partial.sha256-{DIGEST.encoded}"
            partial.write_bytes(left)
            for fault in (*faults, None):
                source.fault = fault
                try:
                    layout.push(stored_blob(cast("Any", source), descriptor))
                except (CorruptBlob, DigestMismatch):
                    assert not partial.exists()
                except TransportError:
                    pass
                else:
                    break
        assert not partial.exists()
        with layout.fetch_blob(DIGEST) as stream:
            assert stream.read() == DATA
    if DATA.startswith(left) and all(kind == "cut" for kind, _ in faults):
        assert source.fetched == len(DATA) - len(left)
