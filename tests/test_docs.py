"""The documents say what the program does.

A command, column or exit code that they leave out fails here, and so does an option of `digitize scan`, or one that
`digitize watch` alone has. What the options of all others are, `--help` has to say, to which the README points.
"""

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
OPTIONS = {
    name: {option for given in command.params for option in (*given.opts, *given.secondary_opts) if option[0] == "-"}
    for name, command in COMMANDS.items()
}
COMMAND = re.compile(r"digitize (?:(?:sheets|models|data|review) )?[a-z]+")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


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


def command_lines() -> list[str]:
    """What the README shows of the command line, within its text and set off from it, without remarks."""
    shown = re.findall(r"`(digitize [^`]+)`", README)
    for line in re.findall(r"^    (.+)", README, re.MULTILINE):
        shown += [begun.partition(" #")[0] for begun in re.findall(r"\bdigitize [a-z].*", line)]
    return shown


def test_the_readme_names_no_command_that_is_not_there() -> None:
    named = {name for line in command_lines() for name in COMMAND.findall(line)}
    assert named == COMMANDS.keys()


def test_every_option_of_scan_is_in_its_table_and_no_other() -> None:
    _, _, rows = table("Commands").partition("\n| option of `scan` |")
    named = {
        option for row in re.findall(r"^\|((?:[^|\\]|\\.)*)\|", rows, re.MULTILINE) for option in OPTION.findall(row)
    }
    assert named == {option for option in OPTIONS["digitize scan"] if option.startswith("--")} | {"-o"}


def test_every_option_that_only_watch_has_is_where_it_is_told_of() -> None:
    own = OPTIONS["digitize watch"] - OPTIONS["digitize scan"]
    assert own
    assert own - set(OPTION.findall(table("Unattended"))) == set()


def test_every_option_in_a_command_line_of_the_readme_is_one_of_that_command() -> None:
    named = [(COMMAND.match(line), set(OPTION.findall(line)) - {"--help"}) for line in command_lines()]
    foreign = [(name[0], options - OPTIONS[name[0]]) for name, options in named if name]
    assert sum(bool(options) for _, options in named) > 20
    assert [one for one in foreign if one[1]] == []


def test_every_option_in_a_commands_row_is_one_of_that_command() -> None:
    rows = [(COMMAND.search(row), row) for row in table("Commands").splitlines() if row.startswith("| `digitize ")]
    foreign = [(name[0], set(OPTION.findall(row)) - OPTIONS[name[0]]) for name, row in rows if name]
    assert len(foreign) == len(COMMANDS)
    assert [one for one in foreign if one[1]] == []


def test_every_option_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"`(--?[a-z][a-z-]*)", README))
    assert named
    assert named - set().union(*OPTIONS.values()) <= {"--help", "--version"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    assert [p.name for p in COMMANDS[name].params if not p.help and p.name != "help"] == []


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
