"""The front holds what nothing beats."""

from __future__ import annotations

import front


def point(name: str, macs: int, validation: float) -> front.Point:
    return front.Point(name, 1, macs, validation, 0.0, 0.0)


def test_the_front_holds_what_nothing_cheaper_reaches() -> None:
    points = [point("small", 1, 0.98), point("dear", 5, 0.98), point("best", 9, 0.99), point("worst", 9, 0.97)]
    assert front.on_front(points) == {"small", "best"}


def test_two_alike_are_both_on_it() -> None:
    assert front.on_front([point("a", 3, 0.99), point("b", 3, 0.99)]) == {"a", "b"}
