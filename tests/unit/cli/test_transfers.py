"""cli.transfers: the lines for the blobs in flight, and for all together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest

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

Happening: TypeAlias = "ProgressEvent | float"

MB = 10**6
ONE, TWO = Digest.parse(f"sha256:{64 * '1'}"), Digest.parse(f"sha256:{64 * '2'}")


def blob(key: int, digest: Digest = ONE, size: int | None = 100 * MB, title: str = "") -> BlobBegun:
    return BlobBegun(key, "push", digest, "", size, None, title)


def stream(key: int, source_size: int | None = 100 * MB, title: str = "") -> BlobBegun:
    return BlobBegun(key, "push", None, "", None, source_size, title)


def moved(key: int, count: int, read: int | None = None) -> BlobMoved:
    return BlobMoved(key, count, count if read is None else read, None)


def after(*events: Happening) -> tuple[Transfers, list[str]]:
    """Return what has noted the events, and what it said of each; a number is a time."""
    transfers, said, now_s = Transfers(0.0), [], 0.0
    for event in events:
        if isinstance(event, float):
            now_s = event
            transfers.tick(now_s)
        else:
            said.append(transfers.note(event, now_s))
    return transfers, list(filter(None, said))


def lines(*events: Happening, columns: int = 79, rows: int = 9) -> list[str]:
    now_s = max(event for event in (0.0, *events) if isinstance(event, float))
    return after(*events)[0].lines(columns, rows, now_s)


def test_lines_show_each_blob_and_the_whole() -> None:
    """Share, bytes, rate and time left."""
    events: list[Happening] = [BlobsPlanned(2, 300 * MB), blob(1), blob(2, TWO, 200 * MB)]
    assert lines(*events, 0.0, moved(1, 20 * MB), moved(2, 40 * MB), 2.0, columns=89) == [
        "111111111111      [==>               ]   20%   20.0 of 100.0 MB   10.0 MB/s  0:00:08",
        "222222222222      [==>               ]   20%   40.0 of 200.0 MB   20.0 MB/s  0:00:08",
        "0 of 2 blobs      [==>               ]   20%   60.0 of 300.0 MB   30.0 MB/s  0:00:08 left",
    ]


def test_lines_have_no_bar_if_columns_are_few() -> None:
    """Each line fits into the terminal."""
    events: list[Happening] = [blob(1), 0.0, moved(1, 20 * MB), 2.0]
    assert lines(*events, columns=50) == [
        "111111111111       20%   20.0 of 100.0 MB   10.0 …",
        "0 of 1 blob        20%   20.0 of 100.0 MB   10.0 …",
    ]
    assert all(len(line) <= 9 for line in lines(*events, columns=9))


@pytest.mark.parametrize(
    ("rows", "shown", "more"), [(6, 5, 0), (5, 3, 2), (4, 2, 3), (3, 1, 4), (2, 0, 5), (1, 0, 0)]
)
def test_lines_are_at_most_the_rows_of_the_terminal(rows: int, shown: int, more: int) -> None:
    """The last is for all together, and the one before says how many are not shown."""
    *blobs, whole = lines(*(blob(key) for key in range(1, 6)), 0.0, rows=rows)
    assert [line.partition(" ")[0] for line in blobs[:shown]] == shown * ["111111111111"]
    assert blobs[shown:] == ([f"and {more} more"] if more else [])
    assert whole.startswith("0 of 5 blobs")


def test_lines_of_stream_show_bytes_of_source_and_bytes_sent() -> None:
    """The size of its blob is known at its end only."""
    events: list[Happening] = [stream(1, title="a.tar"), 0.0, moved(1, 5 * MB, 20 * MB), 2.0]
    assert lines(*events)[0] == (
        "a.tar              20%   20.0 of 100.0 MB   10.0 MB/s  0:00:08  5.0 MB sent"
    )
    events = [stream(1, None), 0.0, moved(1, 5 * MB, 20 * MB), 2.0]
    assert lines(*events) == [
        "stream                            20.0 MB   10.0 MB/s  5.0 MB sent",
        "0 of 1 blob                       20.0 MB   10.0 MB/s  0:00:02",
    ]


def test_lines_show_retry_until_bytes_come_again() -> None:
    """And for some seconds more, so that it can be read."""
    cut = BlobRetried(1, "cut", 20 * MB, 2.0)
    events: list[Happening] = [blob(1), 0.0, moved(1, 20 * MB), 1.0, cut]
    told = "111111111111       20%   20.0 of 100.0 MB  cut after 20.0 MB, going on in 2 s"
    assert lines(*events)[0] == told
    assert lines(*events, 9.0)[0] == told
    assert "%   30.0 of 100.0 MB  cut after" in lines(*events, 3.0, moved(1, 30 * MB), 4.0)[0]
    assert "cut" not in lines(*events, 3.0, moved(1, 30 * MB), 6.5)[0]
    assert lines(*events)[-1].endswith("  1 retry")
    assert lines(*events, cut)[-1].endswith("  2 retries")


@pytest.mark.parametrize(
    ("reason", "delay_s", "text"),
    [
        ("cut", 0.5, "cut after 1.2 GB, going on"),
        ("timeout", 1.0, "stalled after 1.2 GB, going on in 1 s"),
        ("connect", 60.0, "not connected after 1.2 GB, going on in 60 s"),
        ("status 503", 0.5, "answered 503 after 1.2 GB, going on"),
        ("response", 0.5, "answered wrongly after 1.2 GB, going on"),
        ("tls", 0.5, "tls after 1.2 GB, going on"),
    ],
)
def test_note_of_retry_says_why_and_how_long_it_waits(
    reason: str, delay_s: float, text: str
) -> None:
    _, said = after(blob(1), BlobRetried(1, reason, 1200 * MB, delay_s))
    assert said == [f"111111111111: {text}"]


def test_note_says_how_each_blob_ends() -> None:
    """For a log."""
    home = Repository.parse("registry.example/base")
    _, said = after(
        *(blob(key) for key in range(1, 5)),
        stream(5, title="a.tar"),
        2.0,
        BlobDone(1, ONE, 100 * MB, 100 * MB),
        BlobSkipped(2),
        BlobMounted(3, home),
        BlobFailed(4, 7 * MB),
        BlobDone(5, TWO, 25 * MB, 100 * MB),
    )
    assert said == [
        "111111111111: 100.0 MB in 0:00:02",
        "111111111111: there already",
        "111111111111: mounted from registry.example/base",
        "111111111111: stopped after 7.0 MB",
        "a.tar: 100.0 MB in, 25.0 MB out, in 0:00:02",
    ]


def test_whole_counts_what_has_ended_but_not_its_rate() -> None:
    """A blob that is there already takes no time."""
    events: list[Happening] = [
        BlobsPlanned(3, 300 * MB),
        blob(1),
        blob(2, TWO),
        0.0,
        BlobSkipped(1),
    ]
    transfers, _ = after(*events, moved(2, 20 * MB), 2.0)
    assert transfers.whole(0.0) == "1 of 3 blobs  40%  120.0 of 300.0 MB  10.0 MB/s  0:00:18 left"


def test_whole_has_no_total_if_a_size_is_unknown() -> None:
    """Of a pipe, which has begun or is only planned."""
    for events in (
        [BlobsPlanned(2, None), blob(1)],
        [blob(1), stream(2, None)],
        [BlobsPlanned(1, None), BlobsPlanned(1, 5)],
    ):
        assert "of 100" not in after(*events)[0].whole(0.0)
    assert "0.0 of 100.0 MB" in after(BlobsPlanned(1, None), blob(1))[0].whole(0.0)


def test_whole_has_size_that_is_known_later() -> None:
    """A blob is named by its digest alone; the registry tells its size."""
    begun = blob(1, size=None)
    assert after(begun)[0].whole(0.0).startswith("0 of 1 blob  0 B")
    transfers, _ = after(begun, BlobMoved(1, MB, MB, 100 * MB))
    assert "1.0 of 100.0 MB" in transfers.whole(0.0)


def test_rate_is_that_of_the_last_seconds() -> None:
    """What was fast a minute ago says nothing about the time left."""
    events: list[Happening] = [blob(1, size=1000 * MB), 0.0]
    for second in range(1, 61):
        events += [moved(1, 500 * MB if second < 50 else (500 + second - 50) * MB), float(second)]
    assert "  1.0 MB/s  " in after(*events)[0].whole(0.0)


def test_rate_is_never_negative() -> None:
    """Bytes that are sent again do not count twice."""
    events: list[Happening] = [blob(1), 0.0, moved(1, 20 * MB), 1.0, moved(1, 10 * MB), 2.0]
    assert "10.0 of 100.0 MB    5.0 MB/s" in " ".join(lines(*events))
    events = [
        blob(1),
        0.0,
        1.0,
        moved(1, 20 * MB),
        7.0,
        moved(1, 10 * MB),
        8.0,
        13.5,
    ]
    assert " 0 B/s" in lines(*events)[0]


def test_name_of_blob_is_its_title_on_one_line() -> None:
    """Anyone may have written it."""
    assert lines(blob(1, title="a\x1b[2J\nb"), 0.0)[0].startswith("a [2J b  ")


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (
            [blob(1), BlobRetried(1, "cut", 0, 0.0), 4.0, BlobDone(1, ONE, 100 * MB, 100 * MB)],
            "1 blob: 100.0 MB, 0:00:04, 25.0 MB/s, 1 retry",
        ),
        (
            [stream(1), 4.0, BlobDone(1, ONE, 25 * MB, 100 * MB)],
            "1 blob: 100.0 MB in, 25.0 MB out, ratio 0.25, 0:00:04, 25.0 MB/s",
        ),
        (
            [
                *(blob(key) for key in range(1, 4)),
                4.0,
                BlobFailed(1, 20 * MB),
                BlobSkipped(2),
                BlobMounted(3, Repository.parse("registry.example/base")),
            ],
            "0 blobs: 20.0 MB, 0:00:04, 5.0 MB/s, 1 there already, 1 mounted, 1 not finished",
        ),
        (  # what a compressor makes of nothing
            [stream(1, 0), 4.0, BlobDone(1, ONE, 20, 0)],
            "1 blob: 0 B in, 20 B out, 0:00:04",
        ),
        ([blob(1), BlobSkipped(1)], "0 blobs: 0 B, 0:00:00, 1 there already"),
    ],
)
def test_summary_says_what_was_moved(events: list[Happening], text: str) -> None:
    now_s = max(event for event in (0.0, *events) if isinstance(event, float))
    assert after(*events)[0].summary(now_s) == text


def test_bytes_of_an_earlier_run_count_in_the_share_alone() -> None:
    """They take no time, and are not moved."""
    events: list[Happening] = [blob(1), 0.0, BlobResumed(1, 60 * MB), 1.0, moved(1, 80 * MB), 2.0]
    transfers, said = after(*events)
    assert said == ["111111111111: goes on after 60.0 MB"]
    assert "80%  80.0 of 100.0 MB  10.0 MB/s" in transfers.whole(2.0)
    transfers, said = after(*events, 4.0, BlobDone(1, ONE, 100 * MB, 100 * MB))
    assert said[1] == "111111111111: 40.0 MB in 0:00:04"
    assert transfers.summary(4.0) == "1 blob: 40.0 MB, 0:00:04, 10.0 MB/s, 60.0 MB kept"


def test_bytes_of_an_earlier_upload_are_read_again() -> None:
    """Of a stream, only those that are sent are fewer."""
    events: list[Happening] = [
        stream(1),
        BlobResumed(1, 20 * MB),
        4.0,
        BlobDone(1, ONE, 25 * MB, 100 * MB),
    ]
    transfers, said = after(*events)
    assert said[1] == "stream: 100.0 MB in, 5.0 MB out, in 0:00:04"
    assert transfers.summary(4.0) == (
        "1 blob: 100.0 MB in, 5.0 MB out, 0:00:04, 25.0 MB/s, 20.0 MB kept"
    )


def test_note_ignores_event_after_the_end() -> None:
    """Threads that read parts of one blob may be late."""
    cut = BlobRetried(1, "cut", 0, 0.0)
    assert after(blob(1), BlobSkipped(1), cut)[1] == ["111111111111: there already"]


def test_transfers_are_empty_until_a_blob_begins() -> None:
    """A push of what is there already shows nothing."""
    assert after(BlobsPlanned(1, 5))[0].is_empty
    assert not after(blob(1))[0].is_empty
