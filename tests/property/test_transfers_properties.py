"""The lines of progress for any events: they fit into the terminal, and sum up what was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from brolga.cli.figures import fit_columns
from brolga.cli.transfers import Transfers
from brolga.spec.digest import Digest
from brolga.spec.progress import (
    BlobBegun,
    BlobDone,
    BlobFailed,
    BlobMounted,
    BlobMoved,
    BlobResumed,
    BlobRetried,
    BlobSkipped,
    BlobsPlanned,
)
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from brolga.spec.progress import ProgressEvent

DIGEST = Digest.of(b"")
HOME = Repository.parse("registry.example/base")

sizes = st.integers(0, 2**63 - 1) | st.integers(0, 2000)
known_sizes = st.none() | sizes
keys = st.integers(1, 4)
events: st.SearchStrategy[Any] = st.one_of(
    st.builds(BlobsPlanned, st.integers(0, 9), known_sizes),
    st.builds(
        BlobBegun,
        keys,
        st.sampled_from(["push", "read"]),
        st.sampled_from([None, DIGEST]),
        st.just(""),
        known_sizes,
        known_sizes,
        st.text(max_size=30),
    ),
    st.builds(BlobMoved, keys, sizes, sizes, known_sizes),
    st.builds(BlobResumed, keys, sizes),
    st.builds(
        BlobRetried,
        keys,
        st.sampled_from(["cut", "timeout", "status 503", "other"]),
        sizes,
        st.floats(0, 60),
    ),
    st.builds(BlobDone, keys, st.just(DIGEST), sizes, sizes),
    st.builds(BlobSkipped, keys),
    st.builds(BlobMounted, keys, st.just(HOME)),
    st.builds(BlobFailed, keys, sizes),
)
times = st.floats(0, 10)


@given(st.lists(st.tuples(events, times), max_size=30), st.integers(0, 120), st.integers(-1, 30))
def test_lines_fit_for_any_events(
    happened: list[tuple[ProgressEvent, float]], columns: int, rows: int
) -> None:
    """Whatever the sizes say, and in any order: a program must not fail for its progress."""
    transfers, now_s = Transfers(0.0), 0.0
    for event, wait_s in happened:
        now_s += wait_s
        assert "\n" not in transfers.note(event, now_s)
        transfers.tick(now_s)
        lines = transfers.lines(columns, rows, now_s)
        assert len(lines) <= max(1, rows)
        assert all(line == fit_columns(line, columns) for line in lines)
        assert transfers.whole(now_s).isprintable()
    assert transfers.summary(now_s).isprintable()
