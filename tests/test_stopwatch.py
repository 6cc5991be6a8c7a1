"""The stopwatch behind `digitize scan --profile`, against a clock that the tests turn by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from digitize import stopwatch
from digitize.stopwatch import Stopwatch


class Clock:
    """A clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_times_add_up_by_stage_in_the_order_of_the_stages(clock: Clock) -> None:
    watch = Stopwatch()
    for stage, seconds in (("detect", 2.0), ("clean", 0.5), ("detect", 3.0)):
        with watch(stage):
            clock.now += seconds
        clock.now += 7.0  # between stages nothing counts
    assert list(watch.take().items()) == [("clean", 0.5), ("detect", 5.0)]
    assert watch.take() == {}


def test_coming_by_items_counts_and_what_is_done_with_them_does_not(clock: Clock) -> None:
    def slow() -> Iterator[int]:
        for item in (1, 2):
            clock.now += 2.0
            yield item
        clock.now += 1.0

    watch = Stopwatch()
    for _ in watch.each("load", slow()):
        clock.now += 10.0
    assert watch.take() == {"load": 5.0}


def test_a_stage_that_fails_counts_all_the_same(clock: Clock) -> None:
    def broken() -> Iterator[int]:
        yield 1
        clock.now += 2.0
        raise OSError("the share went away")

    watch = Stopwatch()
    with pytest.raises(OSError, match="went away"):
        list(watch.each("load", broken()))
    assert watch.take() == {"load": 2.0}


def test_one_that_is_off_counts_nothing_and_changes_nothing(clock: Clock) -> None:
    with stopwatch.OFF("clean"):
        clock.now += 1.0
    assert list(stopwatch.OFF.each("load", [1, 2])) == [1, 2]
    assert stopwatch.OFF.take() == {}


def test_the_table_has_ms_a_page_and_shares() -> None:
    assert stopwatch.table({"clean": 0.6, "load": 0.2}, 4).splitlines() == [
        "stage        ms a page   share",
        "load              50.0   25.0%",
        "clean            150.0   75.0%",
        "all              200.0  100.0%",
    ]


def test_the_table_of_nothing_is_a_table() -> None:
    assert stopwatch.table({}, 0).splitlines()[-1].split() == ["all", "0.0", "0.0%"]
