"""What a blocklist catches and what it does not: `python -m textenv.filters.tricks`."""

from __future__ import annotations

from typing import NamedTuple

from textenv.filters.blocklist import Blocklist


class Trick(NamedTuple):
    """A way to write what is listed.

    name: What is done.
    pattern: What is listed.
    text: How it is written instead.
    """

    name: str
    pattern: str
    text: str


TRICKS = (
    Trick("capital letters", "fuck", "FuCk"),
    Trick("wide letters", "fuck", "ＦＵＣＫ"),
    Trick("letters in circles", "fuck", "ⓕⓤⓒⓚ"),
    Trick("mathematical letters", "fuck", "𝒻𝓊𝒸𝓀"),
    Trick("blanks, dots and dashes between letters", "fuck", "f u.c-k"),
    Trick("lines between letters", "fuck", "f\nu\nc\nk"),
    Trick("signs between letters", "fuck", "f+u=c~k"),
    Trick("soft hyphens", "fuck", "f\u00adu\u00adck"),
    Trick("zero-width blanks and joiners", "fuck", "f\u200bu\u200dck"),
    Trick("letters that show nothing", "fuck", "f\u115fu\u3164ck"),
    Trick("accents", "fuck", "fúĉk"),
    Trick("accents as marks of their own", "fuck", "f\u0338u\u0338c\u0338k"),
    Trick("marks that enclose", "fuck", "f\u20ddu\u20ddck"),
    Trick("ligatures", "stiff", "ﬆiﬀ"),
    Trick("sharp s, small and capital", "scheisse", "SCHEIẞE, Scheiße"),
    Trick("Turkish i without and with a dot", "idiot", "ıdİot"),
    Trick("brackets, quotation marks", "你好", "「你」好"),
    Trick("Korean in single letters", "바보", "\u1107\u1161보"),
    Trick("skin colours, variation selectors", "🖕", "🖕🏽\ufe0f"),
    Trick("split over prompt and text", "fuck", "fu|ck"),
    Trick("one character left open", "f?ck", "feck, f.ö.ck"),
    Trick("a star for a letter", "f?ck", "f*ck"),
    Trick("letters twice", "fuck", "fuuck"),
    Trick("digits for letters", "shit", "sh1t"),
    Trick("letters of other alphabets", "fuck", "fuсk"),
    Trick("symbols and emoji between letters", "fuck", "f☆u🙂ck"),
    Trick("letters in squares", "fuck", "🅵🆄🅲🅺"),
    Trick("another spelling", "fuck", "phuck"),
    Trick("backwards", "fuck", "kcuf"),
)


def caught(trick: Trick) -> bool:
    """Return whether a blocklist with the pattern forbids the text; "|" ends a prompt."""
    prompt, _, text = trick.text.rpartition("|")
    return Blocklist([trick.pattern]).find(prompt, text) is not None


def table() -> str:
    """Return the table, as Markdown."""
    lines = ["| trick | listed | written | forbidden |", "|---|---|---|---|"]
    for trick in TRICKS:
        shown = trick.text if trick.text.isprintable() else ascii(trick.text)[1:-1]
        shown = shown.replace("|", " ⏐ ")
        answer = "yes" if caught(trick) else "no: outside the promise"
        lines.append(f"| {trick.name} | {trick.pattern} | {shown} | {answer} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
