"""Readings as hOCR 1.2 (Breuel, "The hOCR Microformat for OCR Workflow and Results", ICDAR 2007), in XHTML.

A page is an ocr_page, a line an ocr_line, a number an ocrx_word with x_wconf in percent, and a digit an ocrx_cinfo with
its box and confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO
from xml.sax.saxutils import quoteattr

from digitize import write
from digitize.records import Box, Number, PageReading, SheetReading
from digitize.write_alto import plain

CAPABILITIES = "ocr_page ocr_line ocrx_word ocrx_cinfo"


def write_hocr(sheets: Iterable[SheetReading], output: write.Output | TextIO, generator: write.Generator) -> None:
    """Write one hOCR document."""
    system = quoteattr(plain(f"digitize {generator.version}"))
    output.write('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n')
    output.write('<html xmlns="http://www.w3.org/1999/xhtml" lang="zxx">\n<head>\n<title>digitize</title>\n')
    output.write('<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n')
    output.write(f'<meta name="ocr-system" content={system}/>\n')
    output.write(f'<meta name="ocr-capabilities" content="{CAPABILITIES}"/>\n</head>\n<body>\n')
    count = 0
    for sheet in sheets:
        for page in sheet.pages:
            count += 1
            for part in _page(sheet.source, page, count):
                output.write(part)
    output.write("</body>\n</html>\n")


def _page(source: str, page: PageReading, count: int) -> Iterator[str]:
    # A name in a title is delimited by quotes, and there is no way to write one within them.
    image = plain(source).replace('"', "%22").replace("\n", " ")
    title = f'image "{image}"; bbox 0 0 {page.width} {page.height}; ppageno {page.number - 1}'
    yield f'<div class="ocr_page" id="page_{count}" title={quoteattr(title)}>\n'
    for at, line in enumerate(page.lines, 1):
        box = Box.around([number.box for number in line.numbers])
        yield f'<span class="ocr_line" id="line_{count}_{at}" title="{_bbox(box)}">\n'
        for k, number in enumerate(line.numbers, 1):
            yield _word(number, f"word_{count}_{at}_{k}")
        yield "</span>\n"
    yield "</div>\n"


def _word(number: Number, name: str) -> str:
    digits = "".join(
        f'<span class="ocrx_cinfo" title="x_bboxes {_corners(digit.box)}; x_conf {100 * digit.confidence:.2f}">'
        f"{digit.value}</span>"
        for digit in number.digits
    )
    title = f"{_bbox(number.box)}; x_wconf {round(100 * number.confidence)}"
    return f'<span class="ocrx_word" id="{name}" title="{title}">{digits}</span>\n'


def _bbox(box: Box) -> str:
    return f"bbox {_corners(box)}"


def _corners(box: Box) -> str:
    return f"{box.left} {box.top} {box.right} {box.bottom}"
