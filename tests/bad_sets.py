"""Prints what `digitize train` says of datasets that are not as they should be: what was given, exit code, message.

    python tests/bad_sets.py

The sets are those of `test_corpora.BAD`, made in a temporary folder whose name is left out of the messages.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from test_corpora import BAD

from digitize import cli


def train_on(path: Path, output: Path) -> tuple[int, str]:
    """Exit code and message of `digitize train --data PATH`."""
    heard = io.StringIO()
    sys.argv = ["digitize", "train", "-o", str(output), "--data", str(path)]
    with redirect_stderr(heard):
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0), heard.getvalue().strip()
    return 0, heard.getvalue().strip()


def main() -> None:
    print("| given | exit | said |\n|---|---|---|")
    for name, (make, _) in BAD.items():
        with tempfile.TemporaryDirectory() as place:
            code, said = train_on(make(Path(place)), Path(place) / "model")
            print(f"| {name} | {code} | {said.replace(f'{place}/', '')} |")


if __name__ == "__main__":
    main()
