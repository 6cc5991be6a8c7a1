"""The door: what goes in comes out upright and gray, or as one line that says why not."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageCms

from digitize import sheets
from digitize.errors import SheetError, UnsettledSheetError, UsageError
from digitize.records import Page
from digitize.sheets import EVERY_PAGE, Sheet, find, load, parse_pages, sha256

FLAG = np.array([[0, 80, 160], [200, 230, 255]], np.uint8)  # no turn or flip of it looks like another


def one(path: Path | bytes, **options: object) -> Page:
    (page,) = load(path, source="sheet", **options)  # type: ignore[arg-type]
    return page


def refusal(path: Path | bytes, **options: object) -> str:
    with pytest.raises(SheetError) as caught:
        list(load(path, source="sheet", **options))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("sheet" if isinstance(path, bytes) else str(path))
    return message


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pdf(pages: str, objects: str = "", trailer: str = "") -> bytes:
    """A PDF by hand; pdfium rebuilds the table of references that it lacks."""
    body = f"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages {pages}>>endobj\n{objects}"
    return f"{body}\ntrailer<</Root 1 0 R {trailer}>>\n%%EOF\n".encode("latin-1")


def blank_pdf(*sizes: tuple[float, float]) -> bytes:
    """A PDF of blank pages of these sizes in points."""
    kids = " ".join(f"{3 + index} 0 R" for index in range(len(sizes)))
    objects = "\n".join(
        f"{3 + index} 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]>>endobj"
        for index, (width, height) in enumerate(sizes)
    )
    return pdf(f"/Count {len(sizes)}/Kids[{kids}]", objects)


# Choosing pages


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("3", [3]), ("1-3,7", [1, 2, 3, 7]), ("8-", [8, 9]), (" 2 - 4 , 1", [1, 2, 3, 4]), ("5-5", [5])],
)
def test_pages_are_chosen_by_numbers_and_ranges(text: str, chosen: list[int]) -> None:
    assert [number for number in range(10) if number in parse_pages(text)] == chosen


@pytest.mark.parametrize("text", ["", "0", "3-1", "a", "1,,2", "-3", "1-2-3", "1.5", "1 2", "²"])
def test_a_selection_that_makes_no_sense_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--pages"):
        parse_pages(text)


def test_a_selection_prints_as_it_is_written() -> None:
    assert str(parse_pages("1-3,7,9-")) == "1-3,7,9-"


# Finding


def sources(inputs: list[str]) -> list[str]:
    return [sheet.source for sheet in find(inputs)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "deep/c.tif", ".hidden.png", ".cache/d.png", "notes.txt", "deep/empty/"):
        path = tmp_path / "scans" / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "scans"


def test_a_folder_is_searched_in_order_for_what_looks_like_a_sheet(folder: Path) -> None:
    assert sources([str(folder)]) == ["a.JPG", "b.png", "deep/c.tif"]


def test_a_file_keeps_the_path_that_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert sources(["./deep/c.tif", "notes.txt"]) == ["./deep/c.tif", "notes.txt"]


def test_a_pattern_takes_the_sheets_it_matches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert sources(["*"]) == ["a.JPG", "b.png", "c.tif"]
    assert sources(["**/*.tif"]) == ["deep/c.tif"]


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "scan[1].png").touch()
    (sheet,) = find([str(tmp_path / "scan[1].png")])
    assert sheet.error is None


def test_a_sheet_named_twice_is_listed_once(folder: Path) -> None:
    assert sources([str(folder / "b.png"), str(folder), str(folder)]) == [str(folder / "b.png"), "a.JPG", "deep/c.tif"]


def test_equal_names_from_two_folders_keep_their_folder(tmp_path: Path) -> None:
    for name in ("x/1.png", "x/2.png", "y/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = sources([str(tmp_path / "x"), str(tmp_path / "y")])
    assert found == [str(tmp_path / "x/1.png"), "2.png", str(tmp_path / "y/1.png")]


def test_a_whole_path_that_is_a_relative_name_elsewhere_is_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x/1.png", "y/1.png", "z/x/1.png", "z/2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert sources(["x", "y", "z"]) == ["x/1.png", "y/1.png", "2.png", "z/x/1.png"]
    assert sources(["z", "y", "x"]) == ["2.png", "z/x/1.png", "y/1.png", "x/1.png"]


@pytest.mark.parametrize(("given", "reason"), [("none.png", "no such file"), ("*.gif", "matches"), ("", "no sheets")])
def test_what_is_not_there_is_listed_with_its_error(tmp_path: Path, given: str, reason: str) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "1.png").touch()
    (tmp_path / "bad").mkdir()
    missing, good = find([str(tmp_path / "bad" / given) if given else str(tmp_path / "bad"), str(tmp_path / "good")])
    assert missing.error is not None
    assert reason in missing.error
    with pytest.raises(SheetError, match=reason):
        _ = missing.origin
    assert good.origin == tmp_path / "good" / "1.png"


def test_links_in_a_circle_end(folder: Path) -> None:
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self.png").symlink_to(folder / "self.png")
    assert sources([str(folder)]) == ["a.JPG", "b.png", "deep/c.tif"]
    (sheet,) = find([str(folder / "self.png")])
    assert sheet.error is not None
    assert "links" in sheet.error


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (sheet,) = find([str(tmp_path)])
    assert "no sheets" in str(sheet.error)
    assert "pipe" in refusal(tmp_path / "pipe.png")
    with pytest.raises(SheetError, match="pipe"):
        sha256(tmp_path / "pipe.png")


def test_a_dash_is_standard_input() -> None:
    content = saved(Image.fromarray(FLAG), "PNG")
    (sheet,) = find(["-", "-"], stdin=io.BytesIO(content))
    assert (sheet.source, sheet.origin) == ("-", content)
    np.testing.assert_array_equal(one(sheet.origin).gray, FLAG)


def test_too_much_on_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_STDIN_BYTES", 3)
    (sheet,) = find(["-"], stdin=io.BytesIO(b"1234"))
    assert "more than" in str(sheet.error)


def test_a_standard_input_that_is_closed_or_fails_is_a_sheet_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    (sheet,) = find(["-"], stdin=Failing())
    assert sheet.error == "standard input: cannot be read: Input/output error; give a file"
    monkeypatch.setattr(sys, "stdin", None)
    (sheet,) = find(["-"])
    assert "standard input: is closed" in str(sheet.error)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    assert sha256(tmp_path / "a.png") == sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()


# Reading images


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000"])
def test_every_lossless_kind_gives_its_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sheet.any"
    path.write_bytes(saved(Image.fromarray(FLAG), kind, **({"lossless": True} if kind == "WEBP" else {})))
    page = one(path)
    np.testing.assert_array_equal(page.gray, FLAG)
    assert (page.source, page.number, page.gray.dtype, page.gray.flags.writeable) == ("sheet", 1, np.uint8, True)


def test_a_jpeg_gives_about_its_pixels() -> None:
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8), 64).reshape(64, 64)
    assert np.abs(one(saved(Image.fromarray(ramp), "JPEG", quality=95)).gray.astype(int) - ramp).max() <= 4


def test_two_levels_in_group_4_are_black_and_white() -> None:
    bits = Image.fromarray(FLAG).point(lambda value: 255 * (value > 100)).convert("1")
    page = one(saved(bits, "TIFF", compression="group4"))
    np.testing.assert_array_equal(page.gray, np.where(FLAG > 100, 255, 0))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0, 2048, 4000]], np.uint16), [0, 128, 249]),  # 12 bits in 16
        (np.array([[0, 128, 255]], np.uint16), [0, 128, 255]),
        (np.array([[-5, 0, 2**31 - 1]], np.int32), [0, 0, 128]),
        (np.array([[0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-1, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[np.nan, np.inf, 0.0]], np.float32), [255, 255, 0]),
    ],
)
def test_wide_samples_are_scaled_by_the_depth_they_use(samples: np.ndarray, expected: list[int]) -> None:
    assert one(saved(Image.fromarray(samples), "TIFF")).gray.tolist() == [expected]


def test_a_blank_page_in_wide_samples_stays_blank() -> None:
    noise = np.random.default_rng(1).integers(59_000, 60_000, (20, 20)).astype(np.uint16)
    assert np.ptp(one(saved(Image.fromarray(noise), "PNG")).gray) <= 4


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_is_paper(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert one(saved(image.convert(mode), "TIFF")).gray.tolist() == [[255, 0]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_white_ink_on_nothing_lies_on_black(mode: str) -> None:
    image = Image.new("RGBA", (2, 600), (255, 255, 255, 0))
    image.putpixel((1, 580), (250, 250, 250, 255))
    gray = one(saved(image.convert(mode), "TIFF")).gray
    assert (gray[0, 1], gray[580, 0], gray[580, 1]) == (0, 0, 250)
    image.putpixel((0, 3), (90, 0, 0, 255))  # dark ink, too: the light one is paper
    gray = one(saved(image.convert(mode), "TIFF")).gray
    assert (gray[0, 1], gray[580, 0], gray[580, 1]) == (255, 255, 250)
    assert (one(saved(Image.new(mode, (3, 3)), "TIFF")).gray == 255).all()


def test_a_transparent_palette_entry_is_paper() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((1, 0), 1)
    assert one(saved(image, "PNG", transparency=0)).gray.tolist() == [[255, 9]]


def test_inks_are_dark_and_highlighter_is_light() -> None:
    colours = {"black": (20, 20, 20), "blue": (30, 60, 170), "red": (220, 40, 50), "green": (10, 110, 60)}
    lights = {"paper": (255, 255, 255), "cream": (250, 240, 205), "yellow": (255, 240, 80), "pink": (255, 205, 210)}
    row = np.array([[*colours.values(), *lights.values()]], np.uint8)
    values = dict(zip([*colours, *lights], one(saved(Image.fromarray(row), "PNG")).gray[0].tolist(), strict=True))
    assert max(values[name] for name in colours) < 100, values
    assert min(values[name] for name in lights) > 200, values


def test_colour_in_bands_equals_the_formula() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (2 * sheets.BAND_ROWS + 3, 5, 3)).astype(np.uint8)
    luma = rgb.astype(float) @ [0.299, 0.587, 0.114]
    expected = np.minimum(luma, rgb[..., 1])
    assert np.abs(one(saved(Image.fromarray(rgb), "PNG")).gray - expected).max() <= 1


def test_cmyk_and_lab_are_read() -> None:
    cmyk = Image.new("CMYK", (3, 2), (0, 0, 0, 255))
    assert one(saved(cmyk, "TIFF")).gray.max() == 0
    rgb = Image.new("RGB", (3, 2), (255, 255, 255))
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(rgb, profiles[0], profiles[1], outputMode="LAB")
    assert lab is not None
    assert one(saved(lab, "TIFF")).gray.min() >= 254


TURNS = {  # EXIF orientation: how the stored pixels come from upright ones (EXIF 2.3, tag 0x0112)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[sheets.ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](FLAG)))
    content = saved(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(one(content).gray, FLAG)


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_of_a_jpeg_is_undone(orientation: int) -> None:
    exif = Image.Exif()
    exif[sheets.ORIENTATION] = orientation
    big = np.kron(FLAG, np.ones((16, 16), np.uint8))
    content = saved(Image.fromarray(np.ascontiguousarray(TURNS[orientation](big))), "JPEG", exif=exif, quality=100)
    assert np.abs(one(content).gray.astype(int) - big).max() <= 3


def test_an_orientation_out_of_range_is_left_alone() -> None:
    exif = Image.Exif()
    exif[sheets.ORIENTATION] = 77
    np.testing.assert_array_equal(one(saved(Image.fromarray(FLAG), "PNG", exif=exif)).gray, FLAG)


@pytest.mark.parametrize(
    ("stated", "size", "believed"),
    [((300, 300), 100, 300), ((300, 150), 100, None), ((1, 1), 100, None), ((72, 72), 4000, None), (None, 9, None)],
)
def test_a_dpi_is_believed_where_it_is_plausible(
    stated: tuple[int, int] | None, size: int, believed: float | None
) -> None:
    page = one(saved(Image.new("L", (size, 9)), "PNG", **({"dpi": stated} if stated else {})))
    assert page.dpi == (None if believed is None else pytest.approx(believed, rel=1e-3))


# Many pages


def tiff(*images: Image.Image, **options: object) -> bytes:
    return saved(images[0], "TIFF", save_all=True, append_images=images[1:], **options)


def shades(*values: int) -> list[Image.Image]:
    return [Image.new("L", (40, 30), value) for value in values]


def shades_read(content: bytes, **options: object) -> list[tuple[int, int]]:
    return [(page.number, int(page.gray[0, 0])) for page in load(content, source="", **options)]  # type: ignore[arg-type]


def test_every_page_of_a_tiff_is_read() -> None:
    assert shades_read(tiff(*shades(10, 20, 30))) == [(1, 10), (2, 20), (3, 30)]


def test_only_the_pages_asked_for_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = sheets._decode
    monkeypatch.setattr(sheets, "_decode", lambda image, number, name: decoded.append(number) or decode(image, 1, name))
    list(load(tiff(*shades(10, 20, 30, 40)), source="", pages=parse_pages("2,4")))
    assert decoded == [2, 4]


def test_pages_come_one_by_one() -> None:
    pages = load(tiff(*shades(10, 20)), source="")
    assert next(pages).number == 1
    pages.close()  # type: ignore[attr-defined]  # leaves no file open: an unclosed one is a warning, hence an error


def test_a_damaged_page_does_not_hide_the_others() -> None:
    content = bytearray(tiff(*shades(10, 20, 30), compression="tiff_adobe_deflate"))
    with Image.open(io.BytesIO(content)) as image:
        image.seek(1)
        start, length = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    content[start : start + length] = b"\xff" * length
    pages = load(bytes(content), source="")
    assert [next(pages).number, next(pages).number] == [1, 3]
    with pytest.raises(SheetError, match="page 2"):
        next(pages)


def test_an_overview_is_no_page() -> None:
    first, small = shades(10, 20)
    stream = io.BytesIO()
    with Image.new("L", (4, 4), 30) as last:
        small.encoderinfo = {"tiffinfo": {sheets.NEW_SUBFILE_TYPE: 1}}
        first.save(stream, "TIFF", save_all=True, append_images=[small, last])
    assert shades_read(stream.getvalue()) == [(1, 10), (2, 30)]


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = shades(10, 200)
    assert shades_read(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [(1, 10)]


def test_asking_for_pages_that_are_not_there_is_an_error() -> None:
    assert "none of the pages asked for (7)" in refusal(tiff(*shades(1, 2)), pages=parse_pages("7"))
    assert "none of the pages" in refusal(blank_pdf((9, 9)), pages=parse_pages("2-"))


# PDFs


def test_a_pdf_is_rendered_at_the_dpi_asked_for() -> None:
    pages = list(load(blank_pdf((72, 144), (36, 36)), source="", dpi=100))
    assert [(page.number, page.gray.shape, page.dpi) for page in pages] == [(1, (200, 100), 100), (2, (50, 50), 100)]
    assert pages[0].gray.min() == 255


def test_a_pdf_made_from_a_picture_shows_it() -> None:
    gray = np.full((60, 40), 255, np.uint8)
    gray[10:20, 5:30] = 0
    page = one(saved(Image.fromarray(gray), "PDF", resolution=300))
    assert page.gray.shape == (60, 40)
    assert np.abs(page.gray.astype(int) - gray).mean() < 5


def test_a_huge_page_is_rendered_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_RENDERED_PIXELS", 10_000)
    page = one(blank_pdf((14_400, 14_400)), dpi=300)
    assert page.gray.size <= 10_201
    assert page.dpi == pytest.approx(0.5)


def test_a_dpi_out_of_range_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--dpi 7"):
        next(load(b"x", source="", dpi=7))


def test_of_a_pdf_the_pages_asked_for_are_rendered() -> None:
    pages = load(blank_pdf((9, 9), (18, 18), (27, 27)), source="", pages=parse_pages("2-3"), dpi=72)
    assert [(page.number, page.gray.shape) for page in pages] == [(2, (18, 18)), (3, (27, 27))]


def test_an_encrypted_pdf_is_refused() -> None:
    locked = "/Encrypt<</Filter/Standard/V 1/R 2/O<" + "00" * 32 + ">/U<" + "00" * 32 + ">/P -4>>/ID[<00><00>]"
    assert "password" in refusal(pdf("/Count 1/Kids[3 0 R]", "3 0 obj<</Type/Page>>endobj", locked))


def test_a_pdf_without_pages_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pypdfium2.PdfDocument.new().save(stream)
    path = tmp_path / "empty.pdf"
    path.write_bytes(stream.getvalue())
    refusal(b"%PDF-1.4 damaged")  # pdfium remembers this error
    assert "without pages" in refusal(path)
    assert "without pages" in refusal(stream.getvalue())


def test_a_broken_pdf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"hello")
    assert "damaged or no PDF" in refusal(path)


# Refusing


PHOTO = np.random.default_rng(3).integers(0, 256, (64, 64)).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello\n", "is text"),
        ("grüße".encode(), "is text"),
        (bytes(range(256)), "no image"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(9), "HEIC"),
        (saved(Image.fromarray(PHOTO), "JPEG")[:900], "truncated"),
        (saved(Image.fromarray(PHOTO), "PNG")[:900], "truncated"),
        (saved(Image.fromarray(PHOTO), "TIFF")[:900], "truncated"),
        (saved(Image.fromarray(PHOTO), "BMP")[:900], "truncated"),
        (saved(Image.fromarray(PHOTO), "PNG")[:20], "truncated"),
    ],
)
def test_bad_content_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(content)
    assert reason in refusal(path)
    assert reason in refusal(content)


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    shape = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", shape) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_500, 100_000])
def test_a_decompression_bomb_is_refused_before_it_grows(side: int) -> None:
    message = refusal(png_header(side, side))
    assert f"{side * side // 10**6} megapixels, the limit is 150" in message


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "none.png")
    with pytest.raises(SheetError, match="no such file"):
        sha256(tmp_path / "none.png")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)  # root may read everything, so a mode of 000 would not do
    assert "Permission denied" in refusal(tmp_path / "secret.png")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    (sheet,) = find([str(tmp_path / "a\nb.png")])
    assert "\n" not in str(sheet.error)
    assert "a\\nb.png" in str(sheet.error)


def test_whatever_a_decoder_raises_becomes_a_sheet_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (TypeError("a\nb"), SyntaxError("x"), KeyError(3), MemoryError(), zlib.error("z"), RecursionError()):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Image.Image, "getexif", fail)
        monkeypatch.setattr(sheets, "_gray", fail)
        refusal(saved(Image.fromarray(FLAG), "PNG"))


def test_broken_metadata_does_not_refuse_good_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(FLAG), "PNG")

    def fail(_: object) -> None:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    np.testing.assert_array_equal(one(content).gray, FLAG)


def test_warnings_are_silent_while_any_thread_is_inside_and_back_afterwards() -> None:
    before = warnings.filters[:]
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with sheets._quiet:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    with sheets._quiet:
        warnings.warn("unheard", stacklevel=1)
    warnings.warn("unheard too: the thread is inside", stacklevel=1)
    leave.set()
    thread.join()
    assert warnings.filters == before


def test_sheets_read_in_many_threads_at_once_come_out_right() -> None:
    content, wrong = blank_pdf((72, 72)), []
    picture = saved(Image.fromarray(PHOTO), "PNG")

    def read() -> None:
        for _ in range(5):
            if one(content, dpi=72).gray.shape != (72, 72) or not np.array_equal(one(picture).gray, PHOTO):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_sheet_that_was_not_found_says_so() -> None:
    with pytest.raises(SheetError, match="no such sheet"):
        _ = Sheet("x").origin
    assert EVERY_PAGE.last == float("inf")


@pytest.mark.parametrize(
    ("content", "passing"),
    [
        (b"", True),
        (saved(Image.radial_gradient("L"), "PNG")[:2000], True),
        (b"\0" * 2000, True),
        (b"%PDF-1.4\n1 0 obj<</Type/Catalog", True),
        (b"dear reader", False),
        (b"\x89PNG\r\n\x1a\n" + b"\x01" * 200, False),
        (pdf("/Count 0/Kids[]"), False),
    ],
    ids=["empty", "cut png", "room made", "cut pdf", "text", "damaged", "pageless"],
)
def test_what_may_pass_is_told_from_what_will_not(content: bytes, passing: bool) -> None:
    with pytest.raises(SheetError) as caught:
        list(load(content, source="sheet"))
    assert isinstance(caught.value, UnsettledSheetError) == passing


def test_a_file_that_is_not_there_may_come(tmp_path: Path) -> None:
    for ask in (sha256, lambda path: list(load(path, source="sheet"))):
        with pytest.raises(UnsettledSheetError):
            ask(tmp_path / "missing.png")
    with pytest.raises(SheetError) as caught:
        sha256(tmp_path)
    assert not isinstance(caught.value, UnsettledSheetError)
