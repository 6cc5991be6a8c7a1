"""Rules about numbers, and what they do to a reading: doubt and propose, never change."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitize import numbers, write, write_numbers
from digitize.checks import CHECKS, IBAN_LENGTHS, Rule, is_iban, is_luhn, is_mod11, parse_rules
from digitize.errors import UsageError
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading

DIGITS = st.text("0123456789", min_size=1, max_size=20)


def number(text: str, other: str = "", *, sure: float = 0.8, second: float = 0.15) -> Number:
    """A number as read, and its runner-ups."""
    return Number(
        tuple(
            Digit(int(a), sure, int(b), second, "ok", Box(10 + 20 * k, 5, 15, 30))
            for k, (a, b) in enumerate(zip(text, other or text[::-1], strict=True))
        )
    )


# Check digits


@pytest.mark.parametrize("text", ["79927398713", "4539578763621486", "00", "18"])
def test_luhn_accepts(text: str) -> None:
    assert is_luhn(text)


@pytest.mark.parametrize("text", ["79927398710", "0", "", "4539578763621468"])
def test_luhn_refuses(text: str) -> None:
    assert not is_luhn(text)


@pytest.mark.parametrize("text", ["0306406152", "00", "19"])
def test_mod11_accepts(text: str) -> None:
    assert is_mod11(text)


def test_iban_accepts_the_registrys_examples() -> None:
    assert is_iban("89370400440532013000", "DE")
    assert is_iban("89370400440532013000")
    assert is_iban("611904300234573201", "AT")
    assert is_iban("9386011117947", "NO")
    assert not is_iban("89370400440532013001", "DE")
    assert not is_iban("89370400440532013000", "CZ")
    assert not is_iban("8937040044053201300")


@given(DIGITS, st.data())
def test_one_wrong_digit_is_always_found(body: str, data: st.DataObject) -> None:
    """Luhn, modulo 11 (below its period) and modulo 97 find every single misreading."""
    for passes, most in ((is_luhn, 20), (is_mod11, 9)):
        whole = next((body[:most] + end for end in "0123456789" if passes(body[:most] + end)), None)
        if whole is None:  # modulo 11 asks for an X
            continue
        at = data.draw(st.integers(0, len(whole) - 1))
        wrong = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != whole[at]]))
        assert not passes(whole[:at] + wrong + whole[at + 1 :])


@given(st.text("0123456789", min_size=18, max_size=18), st.integers(0, 19), st.integers(1, 9))
def test_an_iban_with_one_wrong_digit_is_found(account: str, at: int, off: int) -> None:
    check = f"{98 - int(account + '131400') % 97:02d}"
    whole = check + account
    assert is_iban(whole, "DE")
    wrong = str((int(whole[at]) + off) % 10)
    assert not is_iban(whole[:at] + wrong + whole[at + 1 :], "DE")


# Options


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"expect_length": "3"}, ["123", "000"], ["12", "1234"]),
        ({"expect_length": "2-3"}, ["12", "123"], ["1", "1234"]),
        ({"expect_length": "4-"}, ["1234", "12345"], ["123"]),
        ({"pattern": "4[0-9]{2}"}, ["400"], ["500", "40", "4000"]),
        ({"within": "1-31"}, ["1", "031"], ["0", "32"]),
        ({"within": "100-"}, ["100"], ["99"]),
        ({"within": "-500"}, ["0", "500"], ["501"]),
        ({"within": "7"}, ["7"], ["8"]),
        ({"check": "luhn"}, ["18"], ["19"]),
        ({"check": "iban:NO"}, ["9386011117947"], ["89370400440532013000"]),
    ],
    ids=str,
)
def test_rules_are_what_was_asked_for(options: dict[str, str], good: list[str], bad: list[str]) -> None:
    (rule,) = parse_rules(**options)
    assert [text for text in good + bad if rule.passes(text)] == good


@pytest.mark.parametrize(
    "options",
    [
        *({"expect_length": text} for text in ("", "-", "3-2", "two", "1-2-3", "-1.5")),
        *({"within": text} for text in ("", "9-1", "1..2")),
        *({"check": text} for text in ("", "luhn2", "iban:", "iban:FR", "mod11:DE")),
        {"pattern": "["},
    ],
    ids=str,
)
def test_rules_that_make_no_sense_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--(expect-length|range|check|pattern)"):
        parse_rules(**options)


def test_a_number_beyond_what_python_turns_into_one_lies_in_no_span() -> None:
    bounded, open_ended = (rule for text in ("1-31", "1-") for rule in parse_rules(within=text))
    assert not bounded.passes("9" * 5000)
    assert open_ended.passes("9" * 5000)


def test_every_check_has_a_function_and_every_iban_a_length() -> None:
    assert all(len(parse_rules(check=name)) == 1 for name in CHECKS)
    assert all(11 <= length <= 32 for length in IBAN_LENGTHS.values())


# What they do to a reading


def test_a_number_that_passes_is_left_alone() -> None:
    read = number("18", "07")
    assert numbers.judge(read, parse_rules(check="luhn")) == read


def test_a_number_that_fails_is_doubted_and_keeps_its_reading() -> None:
    read = number("79927398710", "79927398713")
    judged = numbers.judge(read, parse_rules(check="luhn", expect_length="11"))
    assert judged.text == read.text
    assert judged.failed == ("luhn",)
    assert judged.proposal == "79927398713"
    assert {digit.status for digit in judged.digits} == {"review"}
    assert judged.confidence < read.confidence / 10
    assert 0 < judged.proposal_confidence <= 1


def test_the_likeliest_reading_is_proposed() -> None:
    """Of two runner-ups that would mend it, the one that was nearly read."""
    read = number("12", "12")
    near, far = (
        replace(read.digits[0], alternative=3, alternative_confidence=0.19),
        replace(read.digits[1], alternative=4, alternative_confidence=0.01),
    )
    judged = numbers.judge(Number((near, far)), (Rule("odd sum", lambda text: sum(map(int, text)) % 5 == 0),))
    assert judged.proposal == "32"


def test_where_no_runner_up_mends_it_nothing_is_proposed() -> None:
    judged = numbers.judge(number("123"), parse_rules(expect_length="4"))
    assert (judged.failed, judged.proposal, judged.proposal_confidence) == (("length",), "", 0.0)


def test_what_is_hardly_likely_is_not_proposed() -> None:
    judged = numbers.judge(number("19", "08", sure=0.9, second=1e-5), parse_rules(check="luhn"))
    assert (judged.failed, judged.proposal) == (("luhn",), "")


def test_what_a_person_said_is_neither_doubted_nor_changed() -> None:
    digits = tuple(replace(digit, status="confirmed", confidence=1.0) for digit in number("19", "88").digits)
    judged = numbers.judge(Number(digits), parse_rules(check="luhn"))
    assert (judged.digits, judged.proposal, judged.confidence) == (digits, "", pytest.approx(1.0))


@given(DIGITS, DIGITS)
def test_a_proposal_passes_and_swaps_few_digits_for_runner_ups(text: str, other: str) -> None:
    other = (other * 20)[: len(text)]
    rules = parse_rules(check="luhn")
    judged = numbers.judge(number(text, other), rules)
    assert judged.text == text
    if judged.proposal:
        assert is_luhn(judged.proposal)
        changed = [k for k, (a, b) in enumerate(zip(text, judged.proposal, strict=True)) if a != b]
        assert len(changed) <= numbers.MOST_SWAPS
        assert all(judged.proposal[k] == other[k] for k in changed)


# Rows and formats

SHEET = SheetReading(
    '=a <b>\x01 "q".png',
    "ab" * 32,
    (
        PageReading(
            1,
            300,
            200,
            (Line((number("007"), numbers.judge(number("19", "18"), parse_rules(check="luhn")))),),
        ),
        PageReading(2, 300, 200, ()),
    ),
)
GENERATOR = write.Generator("0.1.0", "stub & co", "cd" * 32)


def test_one_row_a_number() -> None:
    stream = io.StringIO()
    write_numbers.write_numbers([SHEET], stream, GENERATOR)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert tuple(rows[0]) == write_numbers.COLUMNS
    assert [row["text"] for row in rows] == ["007", "19"]
    assert [row["status"] for row in rows] == ["ok", "review"]
    assert (rows[1]["doubtful"], rows[1]["failed"], rows[1]["proposal"]) == ("1 2", "luhn", "18")
    assert rows[0]["source"].startswith("'=")
    assert (rows[0]["left"], rows[0]["width"]) == ("10", "55")


def test_json_tells_what_failed_and_reads_it_back() -> None:
    stream = io.StringIO()
    write.write_json([SHEET], stream, GENERATOR)
    document = json.loads(stream.getvalue())
    jsonschema.validate(document, write.schema())
    passed, failed = document["sheets"][0]["pages"][0]["lines"][0]["numbers"]
    assert "failed" not in passed
    assert (failed["failed"], failed["proposal"]["text"]) == (["luhn"], "18")
    (again,) = write.read_json(io.StringIO(stream.getvalue()))
    assert again.pages[0].lines[0].numbers[1].failed == ("luhn",)
    once_more = io.StringIO()
    write.write_json([again], once_more, GENERATOR)
    assert once_more.getvalue() == stream.getvalue()


ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
XLINK = "{http://www.w3.org/1999/xlink}"
# What version 4.4 of the schema lets stand in each element, in order, and the attributes that it asks for.
ORDER = {
    "alto": ["Description", "Layout"],
    "Description": ["MeasurementUnit", "Processing"],
    "Processing": ["processingCategory", "processingStepSettings", "processingSoftware"],
    "processingSoftware": ["softwareName", "softwareVersion"],
    "Layout": ["Page"],
    "Page": ["PrintSpace"],
    "PrintSpace": ["TextBlock"],
    "TextBlock": ["TextLine"],
    "TextLine": ["String", "SP"],
    "String": ["ALTERNATIVE", "Glyph"],
    "Glyph": ["Variant"],
}
NEEDED = {
    "Page": {"ID", "PHYSICAL_IMG_NR"},
    "TextBlock": {"ID"},
    "String": {"CONTENT"},
    "Glyph": {"CONTENT", "HEIGHT", "WIDTH", "HPOS", "VPOS"},
}


def alto(*sheets: SheetReading) -> ElementTree.Element:
    stream = io.StringIO()
    write.WRITERS["alto"](sheets, stream, GENERATOR)
    return ElementTree.fromstring(stream.getvalue().encode())


def test_alto_is_built_as_its_schema_says() -> None:
    root = alto(SHEET, replace(SHEET, source="b.png"))
    names = []
    for element in root.iter():
        name = element.tag.removeprefix(ALTO)
        inside = [child.tag.removeprefix(ALTO) for child in element]
        allowed = ORDER.get(name, [])
        assert set(inside) <= set(allowed), name
        if name != "TextLine":
            assert inside == sorted(inside, key=allowed.index), name
        assert element.attrib.keys() >= NEEDED.get(name, set()), name
        names += [element.get("ID")] if element.get("ID") else []
    assert len(set(names)) == len(names)


def test_alto_holds_the_reading() -> None:
    root = alto(SHEET)
    strings = list(root.iter(f"{ALTO}String"))
    assert [one.get("CONTENT") for one in strings] == ["007", "19"]
    assert [one.get("CONTENT") for one in strings[0].iter(f"{ALTO}Glyph")] == ["0", "0", "7"]
    assert [one.text for one in root.iter(f"{ALTO}ALTERNATIVE")] == ["18"]
    assert float(strings[1].get("WC", "")) == pytest.approx(SHEET.pages[0].lines[0].numbers[1].confidence, abs=1e-4)
    (block,) = root.iter(f"{ALTO}TextBlock")
    assert block.get(f"{XLINK}title") == '=a <b>\ufffd "q".png'
    assert block.get(f"{XLINK}href") == "%3Da%20%3Cb%3E%01%20%22q%22.png"
    assert len(list(root.iter(f"{ALTO}Page"))) == 2
    assert len(list(alto(SheetReading("bad", "", (), "x")).iter(f"{ALTO}Page"))) == 1


def test_hocr_holds_the_reading() -> None:
    stream = io.StringIO()
    write.WRITERS["hocr"]([SHEET], stream, GENERATOR)
    root = ElementTree.fromstring(stream.getvalue().encode())
    found = {
        kind: [one for one in root.iter() if one.get("class") == kind]
        for kind in ("ocr_page", "ocr_line", "ocrx_word", "ocrx_cinfo")
    }
    assert [len(own) for own in found.values()] == [2, 1, 2, 5]
    assert ["".join(word.itertext()) for word in found["ocrx_word"]] == ["007", "19"]
    assert found["ocr_page"][0].get("title") == 'image "=a <b>\ufffd %22q%22.png"; bbox 0 0 300 200; ppageno 0'
    assert found["ocrx_word"][0].get("title") == f"bbox 10 5 65 35; x_wconf {round(100 * 0.8**3)}"
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(set(ids)) == len(ids) == 5


def test_suffixes_choose_these_formats() -> None:
    assert write.format_of("out.xml") == "alto"
    assert write.format_of("out.hocr") == "hocr"
