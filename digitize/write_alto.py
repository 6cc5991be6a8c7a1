"""Readings as ALTO 4 (Library of Congress, "Analyzed Layout and Text Object", namespace ns-v4, as of version 4.4).

A page is a Page, a line a TextLine, a number a String and a digit a Glyph with its runner-up as Variant; confidences
are WC, GC and VC. What rules propose for a number is an ALTERNATIVE whose PURPOSE says so. All sheets are in one
document. ALTO, made for one image a file, has no place for that but a block's link: each TextBlock points to its sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from digitize import write
from digitize.records import Box, Digit, Number, PageReading, SheetReading

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
VERSION = "4.4"
PROPOSED = "proposal that passes the rules"


def write_alto(sheets: Iterable[SheetReading], output: write.Output | TextIO, generator: write.Generator) -> None:
    """Write one ALTO document."""
    output.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    output.write(f'<alto xmlns="{NAMESPACE}" xmlns:xlink="http://www.w3.org/1999/xlink" SCHEMAVERSION="{VERSION}">\n')
    output.write(f"<Description>\n<MeasurementUnit>pixel</MeasurementUnit>\n{_processing(generator)}</Description>\n")
    output.write("<Layout>\n")
    count = 0
    for sheet in sheets:
        for page in sheet.pages:
            count += 1
            for part in _page(sheet.source, page, count):
                output.write(part)
    if not count:  # the schema asks for one page at least
        output.write('<Page ID="p1" PHYSICAL_IMG_NR="1"/>\n')
    output.write("</Layout>\n</alto>\n")


def plain(text: str) -> str:
    """Text without the letters that XML cannot hold."""
    return "".join(
        letter
        if letter in "\t\n\r" or " " <= letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" or letter > "\uffff"
        else "\ufffd"
        for letter in text
    )


def _processing(generator: write.Generator) -> str:
    said = escape(plain(f"model {generator.model} {generator.model_sha256}".strip()))
    return (
        '<Processing ID="digitize">\n'
        "<processingCategory>contentGeneration</processingCategory>\n"
        f"<processingStepSettings>{said}</processingStepSettings>\n"
        "<processingSoftware><softwareName>digitize</softwareName>"
        f"<softwareVersion>{escape(plain(generator.version))}</softwareVersion></processingSoftware>\n"
        "</Processing>\n"
    )


def _page(source: str, page: PageReading, count: int) -> Iterator[str]:
    name = f"p{count}"
    size = f'HEIGHT="{page.height}" WIDTH="{page.width}"'
    yield f'<Page ID="{name}" {size} PHYSICAL_IMG_NR="{page.number}">\n<PrintSpace HPOS="0" VPOS="0" {size}>\n'
    link = quote(source, safe="/", errors="surrogatepass")
    title = quoteattr(plain(source))
    block = f'ID="{name}b" HPOS="0" VPOS="0" {size} xlink:type="simple" xlink:href="{link}" xlink:title={title}'
    if page.lines:
        yield f"<TextBlock {block}>\n"
        for at, line in enumerate(page.lines, 1):
            box = Box.around([number.box for number in line.numbers])
            yield f'<TextLine ID="{name}l{at}" {_place(box)}>\n'
            for k, number in enumerate(line.numbers, 1):
                yield ("<SP/>\n" if k > 1 else "") + _string(number, f"{name}l{at}s{k}")
            yield "</TextLine>\n"
        yield "</TextBlock>\n"
    yield "</PrintSpace>\n</Page>\n"


def _string(number: Number, name: str) -> str:
    looked_at = all(digit.status in ("corrected", "confirmed") for digit in number.digits)
    status = ' CS="true"' if looked_at else ""
    trust = f'CONTENT="{number.text}" WC="{number.confidence:.{write.DECIMALS}f}"'
    proposal = f'<ALTERNATIVE PURPOSE="{PROPOSED}">{number.proposal}</ALTERNATIVE>\n' if number.proposal else ""
    glyphs = "".join(_glyph(digit, f"{name}g{at}") for at, digit in enumerate(number.digits, 1))
    return f'<String ID="{name}" {_place(number.box)} {trust}{status}>\n{proposal}{glyphs}</String>\n'


def _glyph(digit: Digit, name: str) -> str:
    trust = f'CONTENT="{digit.value}" GC="{digit.confidence:.{write.DECIMALS}f}"'
    other = f'<Variant CONTENT="{digit.alternative}" VC="{digit.alternative_confidence:.{write.DECIMALS}f}"/>'
    return f'<Glyph ID="{name}" {_place(digit.box)} {trust}>{other}</Glyph>\n'


def _place(box: Box) -> str:
    return f'HEIGHT="{box.height}" WIDTH="{box.width}" HPOS="{box.left}" VPOS="{box.top}"'
