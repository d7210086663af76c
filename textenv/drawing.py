"""A text as a picture of fixed size, so that Gymnasium's `RecordVideo` makes a film of writing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from textenv import glyphs
from textenv.layout import Piece, wrap

# Pixels. Both sides are even, as video codecs want them.
WIDTH, HEIGHT = 640, 360
MARGIN = 26
LINE = 34
BASELINE = 25  # below a line's top
FOOTER = 52
LINES = (HEIGHT - MARGIN - FOOTER) // LINE

PAPER = (252, 251, 247)
RULE = (222, 219, 210)
HIGHLIGHT = (255, 221, 102)
COLOURS = {
    "prompt": (138, 134, 126),
    "text": (28, 28, 30),
    "last": (28, 28, 30),
    "end": (28, 28, 30),
    "gain": (22, 122, 62),
    "loss": (186, 36, 36),
    "nil": (138, 134, 126),
}


def draw(text: list[Piece], status: list[Piece]) -> npt.NDArray[np.uint8]:
    """Draw a text; of one that is too long the end is shown.

    Args:
        text: The prompt and what is written.
        status: What stands below it: the end and the reward.

    Returns:
        uint8 [HEIGHT, WIDTH, 3].
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    canvas = ImageDraw.Draw(image)
    lines = wrap(text, WIDTH - 2 * MARGIN, glyphs.advance)
    if len(lines) > LINES:
        _write(canvas, MARGIN, MARGIN - LINE, [Piece("…", "prompt")])
    for number, line in enumerate(lines[-LINES:]):
        _write(canvas, MARGIN, MARGIN + number * LINE, line)
    top = HEIGHT - FOOTER
    canvas.line((MARGIN, top, WIDTH - MARGIN, top), fill=RULE)
    known = [part for piece in status for part in (piece, Piece("   ", "text"))]
    _write(canvas, MARGIN, top + (FOOTER - LINE) // 2, known)
    return np.array(image)


def _write(canvas: ImageDraw.ImageDraw, x: float, top: float, line: list[Piece]) -> None:
    for text, style in line:
        width = sum(length for _, _, length in _runs(text))
        if style == "last":
            canvas.rectangle((x - 1, top + 2, x + width, top + LINE - 3), fill=HIGHLIGHT)
        for run, font, length in _runs(text):
            baseline = top + BASELINE
            if font is None:
                glyphs.draw_box(canvas, x, baseline, run, COLOURS[style])
            else:
                canvas.text((x, baseline), run, COLOURS[style], font, anchor="ls")
            x += length


def _runs(text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont | None, float]]:
    """Split text into stretches of one font, and into single characters where there is none."""
    for font, group in groupby(glyphs.shapes(text), glyphs.font_for):
        if font is None:
            yield from ((character, None, glyphs.box_width(character)) for character in group)
        else:
            run = "".join(group)
            yield run, font, font.getlength(run)
