"""How long each stage of reading takes: what `digitize scan --profile` shows.

A stopwatch adds up seconds by stage. Stages do not nest, so that the sum over them is time spent, once. One that is off
hands out a context that does nothing, a few times a page, which costs too little to be measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar, get_args

Stage = Literal["load", "clean", "detect", "segment", "normalise", "classify", "decode", "layout", "draw", "write"]
STAGES: tuple[Stage, ...] = get_args(Stage)  # in the order in which a page goes through them

Spent = Mapping[str, float]  # seconds by stage
_Item = TypeVar("_Item")

_NOTHING: AbstractContextManager[None] = nullcontext()


class Stopwatch:
    """Adds up seconds by stage; called with a stage's name, it gives a context that counts for it."""

    def __init__(self, *, running: bool = True) -> None:
        """Start at zero; one that is not `running` counts nothing."""
        self.running = running
        self._spent: dict[str, float] = {}

    def __call__(self, stage: Stage) -> AbstractContextManager[None]:
        """A context whose time counts for a stage."""
        return self._count(stage) if self.running else _NOTHING

    def each(self, stage: Stage, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, the time it takes to come by each counted for a stage."""
        if not self.running:
            yield from items
            return
        source = iter(items)
        while True:
            with self._count(stage):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def add(self, spent: Spent) -> None:
        """Add what another stopwatch counted."""
        for stage, seconds in spent.items():
            self._spent[stage] = self._spent.get(stage, 0.0) + seconds

    def take(self) -> Spent:
        """What was counted since this was last asked, in the order of `STAGES`."""
        spent, self._spent = self._spent, {}
        return {stage: spent[stage] for stage in STAGES if stage in spent}

    @contextmanager
    def _count(self, stage: Stage) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[stage] = self._spent.get(stage, 0.0) + time.perf_counter() - began


OFF = Stopwatch(running=False)


def table(spent: Spent, pages: int) -> str:
    """Stages in their order with what a page took of each, in ms and as a share of all.

    Args:
        spent: seconds by stage, summed over all processes.
        pages: that were read.
    """
    whole = sum(spent.values())
    rows = [(stage, spent[stage]) for stage in STAGES if stage in spent]
    lines = [f"{'stage':<12}{'ms a page':>10}{'share':>8}"]
    lines += [_line(stage, seconds, whole, pages) for stage, seconds in rows]
    return "\n".join([*lines, _line("all", whole, whole, pages)])


def _line(name: str, seconds: float, whole: float, pages: int) -> str:
    return f"{name:<12}{1000 * seconds / max(pages, 1):>10.1f}{seconds / whole if whole else 0.0:>8.1%}"
