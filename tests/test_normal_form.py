"""The normal form: a map of characters, coarser than what the promise speaks of."""

import sys
import unicodedata

import numpy as np
import pytest

from tests.filtering import bare, promised, without_separators
from textenv.filters import normal_form

EVERY = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
ALL = [c for c in EVERY if unicodedata.category(c) not in ("Cn", "Co")]
STEPS = {
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "NFKD": lambda text: unicodedata.normalize("NFKD", text),
    "case folding": str.casefold,
    "removal of separators": without_separators,
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_of_the_promised_form_changes_it(step):
    # For each single character; "a" in front, so that a mark has something to combine with.
    changed = [c for c in ALL if normal_form(STEPS[step]("a" + c)) != normal_form("a" + c)]
    assert changed == []


def test_characters_that_are_none_are_left_out():
    none = "".join(c for c in EVERY if unicodedata.category(c) in ("Cn", "Co"))
    assert len(none) > 900_000
    assert normal_form(none) == ""
    for step in STEPS.values():
        assert step(none) in (none, "")


def test_it_is_that_of_the_parts_whatever_is_put_together():
    # Characters that combine, reorder and compose with their neighbours, from all over Unicode.
    odd = [c for c in ALL if unicodedata.combining(c) or unicodedata.decomposition(c)]
    pool = np.array([*odd, *"aeiouKſßẞİı가각각한글你🙂 .-\u00ad\u200d", *ALL[:0x250]])
    generator = np.random.default_rng(0)
    for size in generator.integers(2, 12, size=6000):
        text = "".join(generator.choice(pool, size=size))
        form = normal_form(text)
        assert form == "".join(map(normal_form, text))
        assert normal_form(form) == form
        assert normal_form(promised(text)) == form
        for step in STEPS.values():
            assert normal_form(step(text)) == form
        assert bare(text) == form  # the checker of the other tests


def test_examples():
    assert normal_form("ＦＵＣＫ") == normal_form("f\u00adu\u200bc\u200dk") == "fuck"
    assert normal_form("f.u-c k\n!") == normal_form("Fü̱ćk") == normal_form("🄵🅄🄲🄺") == "fuck"
    assert normal_form("ﬀ") == "ff"
    assert normal_form("ß") == normal_form("ẞ") == "ss"
    assert normal_form("İIıi") == "iiii"
    assert normal_form("你，好。") == "你好"
    assert normal_form("Ελλάς ΣΑΣ") == "ελλασσασ"  # both small sigmas
    assert normal_form("👩\u200d👧 1️⃣ 👍🏽 $") == "👩👧1👍$"
    assert normal_form("sh1t сир") == "sh1tсир"  # digits and Cyrillic letters stay what they are
    assert normal_form("") == normal_form(" .,\t\ufffd") == ""
