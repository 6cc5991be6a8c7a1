"""The documents say what the program does: a command, column or exit code that they leave out fails here."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer.main

from digitize import cli, errors, models, write

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group: Any, *above: str) -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as `digitize sheets make`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name)), command


COMMANDS = dict(commands(typer.main.get_command(cli.app), "digitize"))


def table(heading: str) -> str:
    """A section of the README."""
    _, _, rest = README.partition(f"\n## {heading}\n")
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert re.fullmatch(r"[A-Z][^\n]+\.", (COMMANDS[name].help or "").strip().splitlines()[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"`{name}\b", table("Commands")), f"README.md, Commands: no `{name}`"


def test_the_readme_names_no_command_that_is_not_there() -> None:
    named = set(
        re.findall(
            r"digitize (?:(?:sheets|models|data|review) )?[a-z]+", " ".join(re.findall(r"`(digitize [^`]+)`", README))
        )
    )
    assert named <= COMMANDS.keys()


def test_every_option_that_the_readme_names_is_there() -> None:
    known = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", table("Commands")))
    assert named <= known | {"--help", "--version"}


def test_every_option_of_scan_has_help() -> None:
    silent = [p.name for p in COMMANDS["digitize scan"].params if not p.help and p.name != "help"]
    assert silent == []


def test_every_column_is_in_the_readme() -> None:
    cells = [line.split("|")[1] for line in table("Columns").splitlines() if line.startswith("|")]
    assert re.findall(r"`([a-z_]+)`", " ".join(cells)) == list(write.COLUMNS)


def test_every_exit_code_is_in_the_readme() -> None:
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", table("Exit codes"), re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.DigitizeError)}
    codes |= {errors.ALL_GOOD, errors.BUG, errors.SOME_SHEETS_FAILED, errors.DIGITS_TO_REVIEW, errors.INTERRUPTED}
    assert named == codes


def test_files_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_room_of_the_architecture_is_there() -> None:
    rooms = re.findall(r"`([a-z_]+\.py)`", "\n".join(re.findall(r"^\|.*", table("Architecture"), re.MULTILINE)))
    assert rooms
    assert [room for room in rooms if not (ROOT / "digitize" / room).exists()] == []


def test_every_sample_is_described() -> None:
    described = (ROOT / "samples" / "README.md").read_text(encoding="utf-8")
    sheets = [path.name for path in (ROOT / "samples").iterdir() if path.suffix in (".png", ".jpg", ".tif", ".pdf")]
    assert [name for name in sheets if f"`{name}`" not in described and name != "overlay.png"] == []


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (models.default_folder() / models.DEFAULT_MODEL / models.CARD_FILE).is_file():
        pytest.skip(f"the default model, {models.DEFAULT_MODEL}, is not there")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    numbers = [number for line in printed.getvalue().splitlines() for number in ast.literal_eval(line)]
    assert all(re.fullmatch("[0-9]+", number) for number in numbers)
    (sheet,) = re.findall(r"samples/([a-z_]+\.[a-z]+)", example)
    truth = json.loads((ROOT / "samples" / "truth.json").read_text(encoding="utf-8"))
    written = [number for line in truth[sheet]["lines"] for number in line]
    assert len(set(written) & set(numbers)) > 0.8 * len(set(written))
