"""Result files are read back whole, and what is none is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from digitize import results, write
from digitize.errors import UsageError


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("wide.csv", ",".join(write.COLUMNS) + "\n" + "9" * (1 << 18) + "\n", "field larger than"),
        ("deep.json", "[" * 200_000, "recursion"),
        ("deep.jsonl", "[" * 200_000, "recursion"),
        ("empty.json", "\n", "is empty"),
        ("cut.csv", ",".join(write.COLUMNS) + "\na.png,1,1,1,1,7,0.9", "line 2 .* 7 cells"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=f"{name}: .*{said}"):
        results.load(path)
