"""Options from a file and the environment: which wins, and that a misspelt one is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from digitize import batch, cli, options, watch
from digitize.batch import Job, Summary
from digitize.errors import UsageError
from digitize.watch import Counts


class Called(Exception):  # noqa: N818 - it is no error
    """Carries what a command would have been run with."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Parses a command line as far as what it hands over."""

    def scan(job: Job) -> Summary:
        raise Called(job)

    def watch_folder(given: watch.Options) -> Counts:
        raise Called(given)

    monkeypatch.setattr(batch, "run", scan)
    monkeypatch.setattr(watch, "watch", watch_folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    for name in [name for name in os.environ if name.startswith("DIGITIZE_") and name != "DIGITIZE_SHARED"]:
        monkeypatch.delenv(name)

    def parse(*words: str) -> Any:
        with pytest.raises(Called) as called:
            cli.app(list(words), standalone_mode=False)
        return called.value.args[0]

    return parse


SCAN = ("scan", "a.png", "-o", "out.csv")
WATCH = ("watch", "inbox", "-o", "outbox")


def test_options_come_from_a_file(parsed: Any, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(
        'jobs = 3\nreview-below = 0.5\nexisting = "abort"\noverlay = "drawn"\nquiet = true\n'
    )
    job = parsed(*SCAN, "--config", "d.toml")
    assert (job.policy.jobs, job.policy.existing) == (3, "abort")
    assert job.settings.review_below == 0.5
    assert job.overlay == Path("drawn")
    assert job.progress is False


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    parsed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.toml").write_text("jobs = 3\ndpi = 100\nbatch_size = 7\n")
    monkeypatch.setenv("DIGITIZE_SCAN_JOBS", "4")
    monkeypatch.setenv("DIGITIZE_SCAN_DPI", "200")
    job = parsed("scan", "--config", "d.toml", *SCAN[1:], "--jobs", "5")
    assert (job.policy.jobs, job.dpi, job.settings.batch_size) == (5, 200, 7)


def test_the_file_itself_may_be_named_by_the_environment(
    parsed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.toml").write_text('output = "from-file.csv"')
    monkeypatch.setenv("DIGITIZE_SCAN_CONFIG", "d.toml")
    assert parsed("scan", "a.png").output == "from-file.csv"


def test_a_table_is_for_its_command(parsed: Any, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text('jobs = 2\n[watch]\ndone = "move"\njobs = 4\n[scan]\nper-sheet = "each"\n')
    job = parsed(*SCAN, "--config", "d.toml")
    assert (job.policy.jobs, job.per_sheet) == (2, Path("each"))
    given = parsed(*WATCH, "--config", "d.toml")
    assert (given.jobs, given.done) == (4, "move")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("jbos = 2", "jbos"),
        ("[scan]\nper_sheets = 'x'", "per_sheets"),
        ("[scna]\njobs = 2", "scna"),
        ("inputs = ['x']", "inputs"),
        ("config = 'x'", "config"),
        ("scan = 3", "scan"),
        ("jobs = ", "no TOML"),
    ],
)
def test_what_is_no_option_is_refused_by_name(parsed: Any, tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(UsageError, match=named):
        cli.app([*SCAN, "--config", "d.toml"], standalone_mode=False)
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        cli.app([*SCAN, "--config", "none.toml"], standalone_mode=False)


@pytest.mark.parametrize("text", ["jobs = 'many'", "existing = 'perhaps'", "review_below = 7"])
def test_a_value_that_makes_no_sense_is_a_usage_error(parsed: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(Exception) as refused:  # noqa: PT011 - of the parser's own kind
        cli.app([*SCAN, "--config", "d.toml"], standalone_mode=False)
    assert getattr(refused.value, "exit_code", None) == 2


def test_an_inbox_says_how_its_sheets_are_read(parsed: Any, tmp_path: Path) -> None:
    (tmp_path / "inbox" / options.INBOX_FILE).write_text("settle = 9\ndpi = 150\n")
    given = parsed(*WATCH)
    assert (given.settle, given.recipe.dpi) == (9, 150)
    (tmp_path / "d.toml").write_text("settle = 5\n")
    for words in [(*WATCH, "--config", "d.toml"), ("watch", "--config", "d.toml", *WATCH[1:])]:
        given = parsed(*words)
        assert (given.settle, given.recipe.dpi) == (5, 300)


@pytest.mark.parametrize("text", ["done = 'delete'", "output = 'elsewhere'", "model = 'mine'"])
def test_an_inbox_says_nothing_about_where_things_go(parsed: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "inbox" / options.INBOX_FILE).write_text(text)
    with pytest.raises(UsageError, match="may not be set in an inbox"):
        cli.app([*WATCH], standalone_mode=False)
