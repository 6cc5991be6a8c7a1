"""What all scenes share: the record of a scene, its writer, sizes, inks, words and ruled paper.

Lengths are in digit heights (`unit`, pixels) throughout, so that every kind of sheet exists at every resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from digitize.hands import Habits, Hand
from digitize.make.canvas import Canvas
from digitize.make.defects import Device
from digitize.make.dice import Dice
from digitize.make.paint import draw_rule, rule_for
from digitize.make.stock import Stock, habits_for
from digitize.make.writing import print_text

WORD_LIST = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which
one you were all her she there would their we him been has when who will no more if out so up said what its
about than into them can only other time new some could these two may first then do any like my now over such
our man me even most made after also did many off before must well back through years where much your way down
should because long each just state people those too mr how little good world make very year still see own
work men day get here old life both between being under three never know same last another while us might
great go come since against right came take used himself few house use during without again place around
however home small found thought went say der die und das nicht von sie ist des sich mit dem ein als auch es
an werden aus er hat dass Straße Nummer Datum le la les un une est que pour dans par sur plus avec son date
total somme montant signature el los por una como cantidad fecha nombre firma importe totale importo numero
Name Betrag Summe Anzahl Unterschrift Total Amount Invoice Account Reference Page Order Quantity Price Weight
Height Age Sex Code Field Office Street Town Postcode Phone
"""
WORDS = WORD_LIST.split()
KNOWN_WORDS = 0.6  # share of words that are listed; the others, as names are, are unknown to whoever reads them
CONSONANTS, VOWELS = "bcdfghjklmnprstvwxyzßñç", "aeiouäöüéè"
LIKE_DIGITS = "oslzbigqOSIZBGloslzD"  # letters that alone would be digits
LABELS = (
    *("No.", "Nr.", "Total", "Amount", "Date", "Code", "ID", "Phone", "Age", "Sum", "Postcode", "Betrag", "Datum"),
    *("Name", "Points", "Score", "Student no.", "Account", "Zip", "Montant", "Fecha", "Kg", "Meter", "Box"),
)
CURRENCIES = ("$", "Rs", "EUR", "Kr", "Fr", "US$", "Bs", "S/", "R$", "DM", "CHF", "$b")


def any_word(dice: Dice) -> str:
    """A word: listed, of syllables, or of letters that look like digits, the last of which shows that it is a word."""
    if dice.chance(KNOWN_WORDS):
        return dice.pick(WORDS)
    if dice.chance(0.3):
        return "".join(dice.pick(LIKE_DIGITS) for _ in range(dice.whole(2, 5))) + dice.pick("aehkmnrtuvwx")
    syllables = (dice.pick(CONSONANTS) + dice.pick(VOWELS) for _ in range(dice.whole(1, 4)))
    return dice.pick(("", dice.pick(VOWELS))) + "".join(syllables) + dice.pick(("", dice.pick(CONSONANTS)))


@dataclass(slots=True)
class Scene:
    """What a scene hands on.

    Attributes:
        canvas: the ink.
        unit: digit height in pixels.
        stroke: stroke width in pixels.
        tone: of the pen.
        device: how it is taken in; see `defects.Look`.
        pattern: whether a security pattern is printed beneath.
        surround: whether the sheet's edge and what lies beyond are seen.
        tilt: by how many degrees the sheet lies askew.
    """

    canvas: Canvas
    unit: float
    stroke: float
    tone: float
    device: Device = "scan"
    pattern: bool = False
    surround: bool = False
    tilt: float = 0.0


@dataclass(frozen=True, slots=True)
class Writer:
    """The hand of a scene with its size and ink."""

    hand: Hand
    habits: Habits
    unit: float
    tone: float

    @property
    def stroke(self) -> float:
        """Stroke width in pixels."""
        return max(0.7, self.habits.pen.width * self.unit)


def unit_for(dice: Dice, low: float = 14, high: float = 60) -> float:
    """Digit height in pixels: mostly from `low` to `high`, now and then 10 to 120."""
    return dice.log(low, high) if dice.chance(0.9) else dice.log(10, 120)


def tone_for(dice: Dice, *, faint: float = 0.2) -> float:
    """Ink from black to, in `faint` of the throws, faint pencil."""
    return dice.between(0.45, 0.72) if dice.chance(faint) else dice.between(0.0, 0.45)


def writer_for(stock: Stock, dice: Dice, unit: float, *, faint: float = 0.2) -> Writer:
    """A hand for digits `unit` pixels tall; no stroke is thinner than 0.9 pixels."""
    habits = habits_for(dice)
    # Thick felt tips fill small digits: no pen leaves less than six strokes' widths to a small digit's height.
    thickest = 0.24 if unit > 28 else 0.16
    habits = replace(habits, pen=replace(habits.pen, width=min(thickest, max(habits.pen.width, 0.9 / unit))))
    tone = tone_for(dice, faint=faint)
    if habits.pen.kind == "pencil":
        tone = max(tone, dice.between(0.2, 0.6))
    if habits.pen.width * unit < 1.5:
        tone = min(tone, 0.5)
    return Writer(stock.hand(dice, habits), habits, unit, tone)


def device_for(dice: Dice, *, copy: float = 0.2, low: float = 0.25) -> Device:
    """How the sheet is taken in."""
    return dice.weighted({"copy": copy, "low": low, "scan": max(0.05, 1 - copy - low)})


def label(canvas: Canvas, stock: Stock, dice: Dice, left: float, bottom: float, size: float) -> None:
    """Print a label with its lower left corner at a place."""
    text = dice.pick(LABELS) if dice.chance(0.7) else " ".join(any_word(dice) for _ in range(dice.whole(1, 4)))
    if dice.chance(0.15):
        text = f"{dice.whole(1, 40)}{dice.pick(('.', ')', ''))} {text}"
    alpha = print_text(stock.font(dice, size), text)
    canvas.ink(alpha, left, bottom - alpha.shape[0], dice.between(0, 0.5))


def paper_lines(canvas: Canvas, dice: Dice, unit: float, ruled: str, bases: list[float]) -> None:
    """Lines of exercise paper: "ruled" under the digits, "squared", or through the "feet" of the digits."""
    if ruled == "blank":
        return
    rule = replace(rule_for(dice, unit, low=0.015, high=0.06), tone=dice.between(0.3, 0.85))
    if ruled == "squared":
        mesh = unit * dice.log(0.35, 1.3)
        for across in (True, False):
            start = dice.between(0, mesh)
            for k in range(int((canvas.height if across else canvas.width) / mesh) + 1):
                draw_rule(
                    canvas,
                    dice,
                    rule,
                    across=across,
                    at=start + k * mesh,
                    start=-1,
                    end=max(canvas.width, canvas.height),
                )
        return
    feet = dice.between(-0.3, 0.02) if ruled == "feet" else dice.between(0, 0.12)
    for base in bases:
        draw_rule(canvas, dice, rule, across=True, at=base + unit * feet, start=-1, end=canvas.width + 1)
    if dice.chance(0.2):
        draw_rule(canvas, dice, rule, across=False, at=dice.between(0, 0.8) * unit, start=-1, end=canvas.height)
