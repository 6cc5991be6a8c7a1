"""Options from a file: TOML whose keys are the names of options.

    jobs = 2             # for every command that takes it
    [watch]              # for one command
    done = "move"

What the command line says wins over the environment (`DIGITIZE_SCAN_JOBS`), that over the file, and that over the
defaults; the parser does it all, once it knows the file. A key that is no option is refused by name: a misspelt option
that is silently left aside is found out in the morning.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from typer import Context

from digitize.errors import UsageError

PREFIX = "DIGITIZE"  # of the environment's names: DIGITIZE_COMMAND_OPTION
INBOX_FILE = "digitize.toml"  # found in a folder that is watched
TAKEN = "digitize.config"  # in a context's `meta`: the file that its options came from

# Who may drop a sheet into the inbox may say how it is read, not where anything goes or what is deleted.
INBOX_OPTIONS = frozenset(
    "pages dpi rotate review_below max_error batch_size settle poll rescan sheet_timeout jobs".split()  # noqa: SIM905
)


def take_config(context: Context, file: Path | None) -> Path | None:
    """Let a file's options be the defaults of the command that is being parsed; for `--config`.

    Raises:
        UsageError: the file cannot be read, or says what is no option.
    """
    if file is not None:
        _take(context, file, None)
        context.meta[TAKEN] = file
    return file


def take_inbox(context: Context, inbox: Path | None) -> Path | None:
    """Do the same with the file of an inbox, if there is one and `--config` has named no other; for its argument.

    Raises:
        UsageError: the file cannot be read, or says what may not stand in an inbox.
    """
    file = inbox / INBOX_FILE if inbox is not None else None
    if file is not None and file.is_file() and TAKEN not in context.meta:
        _take(context, file, INBOX_OPTIONS)
    return inbox


def _take(context: Context, file: Path, allowed: Collection[str] | None) -> None:
    known = {str(parameter.name) for parameter in context.command.params if parameter.param_type_name == "option"}
    group = context.parent.command if context.parent is not None else None
    context.default_map = _read(file, str(context.info_name), known - {"config", "help"}, _commands(group))
    refused = sorted(set(context.default_map) - set(allowed)) if allowed is not None else []
    if refused:
        name = refused[0].replace("_", "-")
        raise UsageError(f"{file}: {name} may not be set in an inbox; give it on the command line or with --config")


def _commands(group: Any) -> set[str]:
    return set(getattr(group, "commands", ()))


def _read(file: Path, command: str, known: set[str], commands: set[str]) -> dict[str, Any]:
    """What a file says for a command, by parameter."""
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UsageError(f"{file}: is no TOML: {error}; mend it") from error
    said: dict[str, Any] = {}
    own = content.pop(command, {})
    for name, table in list(content.items()):
        if isinstance(table, dict) and name in commands:
            del content[name]
    if not isinstance(own, dict):
        raise UsageError(f"{file}: {command} holds {own!r}, but names a command; write a table [{command}]")
    for key, value in (*content.items(), *own.items()):
        name = key.replace("-", "_")
        if name not in known or isinstance(value, dict):
            raise UsageError(f"{file}: {key} is no option of digitize {command}; see digitize {command} --help")
        said[name] = value
    return said
