"""Which font draws which character, and a box with the code point for those that none has.

Fonts are looked for under their usual file names, where Pillow looks on each platform, and only
when a character needs them. Pillow's own font, which has little more than ASCII, comes last.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

from PIL import ImageDraw, ImageFont

from textenv.layout import clusters

SIZE = 24  # pixels
DIGIT_SIZE = 11  # of the digits in a missing character's box
DIGIT_WIDTH = 8

# Debian and Fedora, then Windows, then macOS; within each group the first that has it is taken.
FONTS = (
    # Latin, Greek, Cyrillic
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf"),
    *("segoeui.ttf", "arial.ttf", "Helvetica.ttc", "Arial.ttf"),
    # Chinese, Japanese, Korean
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf"),
    *("SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc", "uming.ttc"),
    *("DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "msyh.ttc", "simsun.ttc"),
    *("YuGothM.ttc", "msgothic.ttc", "malgun.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc"),
    *("STHeiti Medium.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
    # Signs of all kinds
    *("NotoSansSymbols2-Regular.ttf", "Symbola.ttf", "unifont.otf", "unifont.ttf"),
    *("seguisym.ttf", "seguiemj.ttf", "Apple Symbols.ttf"),
)
OWN = ""  # Pillow's own font


def drawable(text: str) -> str:
    """Leave out what has no shape of its own: format characters and variation selectors."""
    return "".join(
        character
        for character in text
        if unicodedata.category(character) != "Cf" and not "\ufe00" <= character <= "\ufe0f"
    )


def shapes(text: str) -> Iterator[str]:
    """Split text into what is drawn with one font: characters, with their marks if one has both."""
    for cluster in map(drawable, clusters(text)):
        if len(cluster) > 1 and font_for(cluster) is None:
            yield from cluster
        elif cluster:
            yield cluster


@cache
def advance(cluster: str) -> float:
    """Return how many pixels a character with its combining marks takes on the line."""
    width = 0.0
    for shape in shapes(cluster):
        font = font_for(shape)
        width += box_width(shape) if font is None else font.getlength(shape)
    return width


@cache
def font_for(cluster: str) -> ImageFont.FreeTypeFont | None:
    """Return the first font that has a character with its combining marks; None: there is none."""
    for name in (*FONTS, OWN):
        font = _font(name)
        if font is not None and all(_has(name, character) for character in cluster):
            return font
    return None


def box_width(character: str) -> int:
    """Return how many pixels the box of a missing character takes on the line."""
    return DIGIT_WIDTH * max(len(row) for row in _digits(character)) + 8


def draw_box(
    draw: ImageDraw.ImageDraw, x: float, baseline: float, character: str, colour: tuple[int, ...]
) -> None:
    """Draw a box with the hexadecimal code point in two rows, as browsers do."""
    right = x + box_width(character) - 3
    draw.rectangle((x + 1, baseline - 21, right, baseline + 4), outline=colour)
    for row, digits in enumerate(_digits(character)):
        place = ((x + 1 + right) / 2, baseline - 9 + 11 * row)
        draw.text(place, digits, fill=colour, font=_own_font(DIGIT_SIZE), anchor="ms")


def _digits(character: str) -> tuple[str, str]:
    digits = f"{ord(character):04X}"
    middle = (len(digits) + 1) // 2
    return digits[:middle], digits[middle:]


@cache
def _font(name: str) -> ImageFont.FreeTypeFont | None:
    if name == OWN:
        return _own_font(SIZE)
    try:
        return ImageFont.truetype(name, SIZE)
    except OSError:
        return None


@cache
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what a size asks for
    return font


@cache
def _has(name: str, character: str) -> bool:
    """Say whether a font has a character: whether it looks unlike one that no font has."""
    if character.isspace():
        return True
    shape = _shape(name, character)
    return bool(shape[1].strip(b"\0")) and shape != _shape(name, "\U0010ffff")


def _shape(name: str, character: str) -> tuple[tuple[int, int], bytes]:
    font = _font(name)
    assert font is not None  # asked only of fonts that were found
    mask = font.getmask(character)
    return mask.size, bytes(mask)
