"""The OUTBOX of `digitize watch` as a whole, for those who come after: `digitize review apply OUTBOX CORRECTIONS...`.

Corrections of a page of review belong to the results beside it (`reviews.py`), which hold the sheets of that page.
Corrected there, these sheets take the place of their rows in all.csv; so do sheets of the same content under another
name, which were read and are looked at once. A watch may go on meanwhile: what it has not finished writing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from digitize import audit, corrections, ledger, results, reviews
from digitize.corrections import Corrections, Outcome
from digitize.errors import UsageError
from digitize.ledger import Ledger, Whole
from digitize.records import Box, SheetReading
from digitize.results import Results


def apply(outbox: Path, said: Sequence[Corrections]) -> Outcome:
    """Put the corrections of pages of review into the rows of all sheets.

    Raises:
        UsageError: this is no OUTBOX, or corrections belong to none of its pages, or twice to one, or contradict it.
    """
    whole, listed = load(outbox)
    sheets = {sheet.source: sheet for sheet in whole.sheets}
    copies: dict[str, list[str]] = {}
    for name, sha256 in listed.sheets.items():
        copies.setdefault(sha256, []).append(name)
    outcomes: dict[str, Outcome] = {}
    for one in said:
        part = outbox / reviews.FOLDER / Path(one.name).name
        if not part.is_file():
            raise UsageError(f"{part}: is not there, and corrections belong to it; give the OUTBOX of their page")
        if one.name in outcomes:
            raise UsageError(f"{part}: two files of corrections belong to it; give the later one alone")
        before = results.load(part)
        outcomes[one.name] = corrections.apply(before, one)
        for old, new in zip(before.sheets, outcomes[one.name].results.sheets, strict=True):
            for name in copies.get(old.sha256, []):
                if name in sheets and _rows(sheets[name]) == _rows(old):
                    sheets[name] = replace(new, source=name)
                elif name == old.source:
                    raise UsageError(f"{outbox / ledger.ALL_FILE}: holds other rows of {name} than {part}; mend it")
    corrected = replace(whole, sheets=tuple(sheets.values()))
    done = list(outcomes.values())
    return Outcome(
        corrected,
        sum(outcome.corrected for outcome in done),
        sum(outcome.confirmed for outcome in done),
        sum(outcome.removed for outcome in done),
        sum(outcome.added for outcome in done),
        corrections.left_to_review(corrected),
        again=False,
        audit=_together([outcome.audit for outcome in done if outcome.audit is not None]),
    )


def load(outbox: Path) -> tuple[Results, Whole]:
    """The rows of all whole sheets, and what the ledger says of them.

    Raises:
        UsageError: this is no OUTBOX.
    """
    if not (outbox / ledger.OWN_FOLDER / ledger.BASE_FILE).is_file():
        raise UsageError(f"{outbox}: is no OUTBOX of digitize watch; give that, or a file that digitize scan wrote")
    book = Ledger(outbox)
    path = outbox / ledger.ALL_FILE
    try:
        before = book.whole()
        while True:  # until nothing was written while it was read
            content = results.read_bytes(path, results.LARGEST_FILE)
            after = book.whole()
            if after == before:
                return results.parse(path, content[: before.length], "csv"), before
            before = after
    finally:
        book.close()


def _rows(sheet: SheetReading) -> list[tuple[int, tuple[int, ...], int, Box]]:
    """What a sheet says and where, as far as a CSV keeps it."""
    return [
        (page.number, tuple(place), digit.value, digit.box) for page in sheet.pages for *place, digit in page.digits()
    ]


def _together(estimates: Sequence[audit.Estimate]) -> audit.Estimate | None:
    """What several samples say as one."""
    if not estimates:
        return None
    wrong, looked, accepted = (sum(getattr(one, name) for one in estimates) for name in ("wrong", "looked", "accepted"))
    return audit.estimate(wrong, looked, accepted)
