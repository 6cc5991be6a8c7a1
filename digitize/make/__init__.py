"""The sheet maker: sheets and fields with known digits, for training, calibration and benchmarks.

stock.py     hands, letters, signs, fonts of one split
writing.py   numbers, signs, words, print, composed into pieces of ink
paint.py     papers, security patterns, rules and frames, dirt
canvas.py    ink in place, instance map, truth; what changes geometry
scene.py     what all scenes share: sizes, inks, the writer
forms.py     amounts, fields, combs, cells, tables, puzzles
notes.py     lines, sums, prose, photos, dirt
marks.py     digits among signs and words; ticks, rings, tallies
pages.py     whole forms
defects.py   light, blur, noise, one bit, JPEG
sheets.py    the kinds; page after page, and folders of them
"""

from digitize.make.canvas import MadeDigit, MadePage
from digitize.make.sheets import KINDS, WEIGHTS, make_page, scene_at, scenes, write_sheets
from digitize.make.stock import Sources

__all__ = ["KINDS", "WEIGHTS", "MadeDigit", "MadePage", "Sources", "make_page", "scene_at", "scenes", "write_sheets"]
