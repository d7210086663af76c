"""The proof: what a mask leads to is every clean text and no other, however patterns are split.

Small vocabularies are enumerated, and each text is judged by `tests.filtering.holds`, which knows
nothing of tokens.
"""

import numpy as np
import pytest

from tests import filtering
from textenv import Task, exact
from textenv.errors import TextenvError
from textenv.filters import Blocklist, allowed_by, tricks
from textenv.filters.guard import Guard
from textenv.rewards import length, zero
from textenv.vocabulary import (
    ByteVocabulary,
    CharacterVocabulary,
    TokenizerVocabulary,
    WordVocabulary,
)


def make(vocabulary, prompts=("",), max_tokens=4, **changes):
    return Task(
        name="masked",
        vocabulary=vocabulary,
        prompts=list(prompts),
        max_tokens=max_tokens,
        reward=zero(),
        **changes,
    )


def written_without_blanks(*words, end="$"):
    return WordVocabulary(words, separator="", end=end)


SPLIT = written_without_blanks("f", "u", "ck", "fu", "uc", "k", "fuck", " ")
WIDE = written_without_blanks("Ｆ", "u", "ＣＫ", "fu\u00ad", "\u200d", "ck.", "Ü\u0331", "🄵")
FOLDED = written_without_blanks("ß", "ẞ", "ss", "ſ", "S", "a", "ﬆ", "\u0301")
TURKISH = written_without_blanks("k", "ı", "I", "İ", "ll", "L", "ki", "-")
CHINESE = written_without_blanks("你", "好", "，", "您", "你好", "坏", "x", " ")
ACCENTS = written_without_blanks("e", "é", "e\u0301", "\u0301", "\u0345", "α", "ᾳ", "t")
KOREAN = written_without_blanks("한", "하", "\u1112", "\u1161", "\u11ab", "ㄴ", "국", " ")
EMOJI = written_without_blanks("🙂", "👍🏽", "👍", "\ufe0f", "1", "\u20e3", "$$", "🏽")
BYTES = filtering.byte_tokens(
    [b"fu", b"c", b"k", b"\xc3", b"\xa9", b"\xe4\xbd", b"\xa0k", b"f\xc3", b"\xbck", b"u", b" "]
)
FALLBACK = filtering.byte_fallback(["▁", "f", "▁uck", "你"], [0xE4, 0xBD, 0xA0, 0x66, 0x75, 0xFF])
PIECES = filtering.word_piece(["f", "##u", "##ck", "uck", "do", "not", ".", "##not"])
WORDS = WordVocabulary(["bad", "b", "ad", "word", "a"], end="$")

CASES = {
    "split": (SPLIT, ["fuck"], ["", "f", "fu ", "fuck"]),
    "several patterns, one inside another": (SPLIT, ["fuck", "uc", "kk"], ["", "k"]),
    "wide letters, soft hyphens, joiners": (WIDE, ["fuck"], ["", "Ｆ"]),
    "ligatures and sharp s": (FOLDED, ["sst", "assa"], ["", "a"]),
    "dotless i": (TURKISH, ["kill", "iki"], ["", "K"]),
    "Chinese": (CHINESE, ["你好", "坏?你"], ["", "你"]),
    "accents": (ACCENTS, ["été", "αι"], ["", "e"]),
    "Korean letters": (KOREAN, ["한국"], ["", "하"]),
    "emoji": (EMOJI, ["🙂👍", "$1"], ["", "🙂"]),
    "any character": (SPLIT, ["f?c", "k??k"], ["", "k", "f"]),
    "any character, last or between": (SPLIT, ["fu?", "kf?", "uu?k"], ["", "f", "u"]),
    "bytes": (BYTES, ["fuck", "你k", "é?f", "fü"], [""]),
    "bytes as a fallback": (FALLBACK, ["fuck", "fu", "你f"], [""]),
    "WordPiece": (PIECES, ["fuck", "donot"], [""]),
    "words between blanks": (WORDS, ["bad word", "a?ba"], ["", "bad"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("end", [True, False])
def test_a_mask_leads_to_all_clean_texts_and_to_no_other(case, end):
    vocabulary, patterns, prompts = CASES[case]
    prompts = [prompt for prompt in prompts if _readable(vocabulary, prompt)]
    for prompt in prompts:
        task = make(vocabulary, [prompt], end=end)
        guard = Guard(task, Blocklist(patterns))
        clean = filtering.clean_texts(task, patterns, prompt)
        assert filtering.reachable_texts(task, guard, 0) == clean
        every = len(filtering.clean_texts(task, ["\U0001f9ff"], prompt))
        assert 0 < len(clean) < every  # the case is one: something is forbidden, not everything


def _readable(vocabulary, prompt):
    try:
        return vocabulary.decode(vocabulary.encode(prompt)) == prompt
    except ValueError:
        return False


def test_a_clean_text_holds_no_pattern_in_the_form_that_is_promised():
    for vocabulary, patterns, _ in CASES.values():
        if "?" in "".join(patterns):
            continue  # stands for a character of the normal form
        task = make(vocabulary, end=True)
        for ids in filtering.reachable_texts(task, Guard(task, Blocklist(patterns)), 0):
            text = vocabulary.decode([token for token in ids if token != task.rules.end_token])
            assert not filtering.holds(patterns, "", text, filtering.promised)


def test_random_vocabularies_patterns_stops_and_suppressed_tokens():
    generator = np.random.default_rng(1)
    letters = np.array(list("aab.BÄ"))
    impossible = 0
    for number in range(250):
        words = {
            "".join(generator.choice(letters, size=generator.integers(1, 4))) for _ in range(5)
        }
        vocabulary = WordVocabulary(sorted(words), separator="", end="$")
        some = generator.random(vocabulary.size) < 0.2
        vocabulary.suppressed_tokens = tuple(np.flatnonzero(some[:-1]).tolist())
        options = np.array([*"ab?"])
        patterns = ["a", "bab"]
        patterns += ["a" + "".join(generator.choice(options, size=generator.integers(1, 4)))]
        patterns = patterns[number % 3 :]
        stop = [sorted(words)[0]] if number % 2 else []
        prompt = str(generator.choice(sorted(words)))
        task = make(vocabulary, [prompt], 4, stop=stop, end=number % 4 == 0)
        clean = filtering.clean_texts(task, patterns, prompt)
        if not clean:
            impossible += 1
            with pytest.raises(ValueError, match="the blocklist is impossible for masked: after"):
                Guard(task, Blocklist(patterns))
        else:
            guard = Guard(task, Blocklist(patterns))
            assert filtering.reachable_texts(task, guard, 0) == clean, (words, patterns, prompt)
    assert 10 < impossible < 100


@pytest.mark.parametrize("kind", ["bytes", "trained", "fallback"])
def test_random_texts_in_bytes(kind):
    texts = ["the naïve café is bad", "你好，坏人", "🙂🙃 ok", "Straße ＦＵＣＫ"] * 3
    vocabulary = {
        "bytes": ByteVocabulary,
        "trained": lambda: filtering.byte_level(texts, 300),
        "fallback": lambda: filtering.byte_fallback(["▁the", "▁bad", "你", "ü", "b", "a", "▁"]),
    }[kind]()
    patterns = ["a", "é", "你", "ss", "🙂", "ü?b", "²"]
    task = make(vocabulary, ["b"], 12)
    guard, listed = Guard(task, Blocklist(patterns)), Blocklist(patterns)
    generator = np.random.default_rng(2)
    # Bytes of characters that are listed, and of their neighbours, so that the mask bites.
    spelt = [
        vocabulary.encode(text) for text in ("é", "ê", "你", "佟", "🙂", "ß", "ü", "²", "a", "ａ")
    ]
    likely = np.array(sorted({token for ids in spelt for token in ids}))
    refused = 0
    for _ in range(600):
        state = filtering.mdp.initial(task.rules, task.prompt_table[[0]])
        while not filtering.mdp.terminal(task.rules, state).any():
            allowed = guard.allowed(state)[0]
            token = int(generator.choice(likely))
            text = vocabulary.decode([*_ids(task, state), token])
            assert allowed[token] == (listed.find("b", text) is None)
            assert allowed[token] == (not filtering.holds(patterns, "b", text))
            refused += not allowed[token]
            chosen = token if allowed[token] else int(generator.choice(np.flatnonzero(allowed)))
            state = filtering.mdp.transition(task.rules, state, np.array([chosen]))
    assert refused > 500


def _ids(task, state):
    return filtering.mdp.text_ids(task.rules, state.tokens[0])


OUTSIDE = {
    "a star for a letter",
    "letters twice",
    "digits for letters",
    "letters of other alphabets",
    "symbols and emoji between letters",
    "letters in squares",
    "another spelling",
    "backwards",
}


@pytest.mark.parametrize("trick", tricks.TRICKS, ids=lambda trick: trick.name)
def test_the_list_of_tricks_says_what_the_mask_does(trick):
    prompt, _, text = trick.text.rpartition("|")
    task = make(CharacterVocabulary(sorted({*prompt, *text})), [prompt], len(text))
    guard = Guard(task, Blocklist([trick.pattern]))
    state = filtering.mdp.initial(task.rules, task.prompt_table)
    refused = False
    for token in task.vocabulary.encode(text):
        refused |= not guard.allowed(state)[0, token]
        state = filtering.mdp.transition(task.rules, state, np.array([token]))
    assert refused == tricks.caught(trick) == (trick.name not in OUTSIDE)


def test_where_only_the_end_is_left_it_is_forced():
    task = make(CharacterVocabulary("ab", end="$"), max_tokens=3)
    guard = Guard(task, Blocklist(["a", "b"]))
    state = filtering.mdp.initial(task.rules, task.prompt_table)
    assert guard.allowed(state).tolist() == [[False, False, True]]
    # A pattern that is the end token's own name forbids nothing: it is not part of the text.
    assert Guard(task, Blocklist(["$"])).allowed(state).all()


def test_impossible_lists():
    characters = CharacterVocabulary("ab")
    with pytest.raises(ValueError, match="at most 0 of 4 tokens can be written"):
        Guard(make(characters), Blocklist(["a", "b"]))
    # ab, ba, aaa, bbb: "aa" and "bb" cannot go on.
    with pytest.raises(ValueError, match="'' at most 2 of 4 tokens"):
        Guard(make(characters), Blocklist(["ab", "ba", "aaa", "bbb"]))
    assert Guard(make(characters, max_tokens=2), Blocklist(["ab", "ba", "aaa", "bbb"]))
    with pytest.raises(ValueError, match="after the prompt 'aa' at most 0 of 1"):
        Guard(make(characters, ["ba", "aa"], 1), Blocklist(["aaa", "b"]))
    # With "." something can always be written.
    assert Guard(make(CharacterVocabulary("ab.")), Blocklist(["a", "b"]))


def test_the_mask_sees_dead_ends_by_the_tokens_that_are_left():
    # After "a" only "a" is left, and after two of them nothing: "a" may come last, or last but one.
    task = make(CharacterVocabulary("abc"), max_tokens=3)
    guard = Guard(task, Blocklist(["ab", "ac", "aaa"]))
    assert filtering.reachable_texts(task, guard, 0) == filtering.clean_texts(
        task, ["ab", "ac", "aaa"], ""
    )
    state = filtering.mdp.initial(task.rules, task.prompt_table)
    assert guard.allowed(state).tolist() == [[False, True, True]]
    state = filtering.mdp.transition(task.rules, state, np.array([1]))
    assert guard.allowed(state).tolist() == [[True, True, True]]


class Reversed(WordVocabulary):
    """A vocabulary whose texts grow at the left."""

    def decode(self, ids):
        return super().decode(list(ids)[::-1])


class Utf8(WordVocabulary):
    """Bytes of which nobody has said that they are some."""

    def __init__(self):
        super().__init__([f"<{byte}>" for byte in range(256)])

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode("utf-8", "ignore")


def test_vocabularies_of_which_nothing_can_be_promised():
    from tokenizers import Tokenizer, decoders, models

    joined = WordVocabulary(["a", "b"], separator="x")
    for vocabulary in (Reversed(["a", "b", "c"]), joined, Utf8()):
        with pytest.raises(TextenvError, match="not put together token by token from left to"):
            Guard(make(vocabulary), Blocklist(["z"]))
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer.decoder = decoders.CTC()
    with pytest.raises(TextenvError, match="its decoder 'CTC' puts texts together"):
        Guard(make(TokenizerVocabulary(tokenizer)), Blocklist(["z"]))


def test_decoders_that_change_letters_across_tokens():
    # "q" and "z" hardly ever stand side by side in random texts, and together they are "fu".
    from tokenizers import Regex, Tokenizer, decoders, models

    names = ["<end>", *(f"w{number}" for number in range(300)), "q", "z", "ck", "<0x41>"]
    model = models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[])

    def guard(*parts):
        tokenizer = Tokenizer(model)
        tokenizer.add_special_tokens(["<end>"])
        tokenizer.decoder = decoders.Sequence(list(parts))
        vocabulary = TokenizerVocabulary(tokenizer, end_token=0)
        return Guard(make(vocabulary), Blocklist(["fuck"]))

    fuse, letters = decoders.Fuse(), decoders.Replace("qz", "fu")
    for parts in (
        (fuse, letters),
        (decoders.ByteLevel(), letters),
        (decoders.ByteFallback(), letters, fuse),
        (fuse, decoders.Replace(Regex("q+z"), "")),
        (fuse, decoders.Replace(" ", "fu")),
        (fuse, decoders.WordPiece()),  # its clean-up makes "don't" of "do not"
        (fuse, decoders.BPEDecoder(suffix="qz")),
        (fuse, decoders.ByteLevel()),
    ):
        with pytest.raises(TextenvError, match="changes letters of several tokens at once"):
            guard(*parts)
    assert guard(letters, fuse)  # which looks at each token by itself
    assert guard(decoders.Replace("▁", " "), fuse, decoders.Replace(" ", ""), decoders.Strip(" "))


def test_a_prompt_that_the_vocabulary_reads_in_another_way_counts_as_both():
    # [UNK] is nothing when it is decoded: as text the prompt ends in "ba", as tokens in nothing.
    vocabulary = filtering.word_piece(["d", "##d", "b", "a"])
    task = make(vocabulary, ["xba"])
    assert vocabulary.decode(task.prompt_ids[0]) == ""
    state = filtering.mdp.initial(task.rules, task.prompt_table)
    allowed = Guard(task, Blocklist(["bad"])).allowed(state)[0]
    assert allowed.tolist() == [True, True, False, False, True, True]


def test_what_it_remembers_does_not_change_what_it_says():
    task = make(SPLIT, ["f", "k"], 6)
    guard, other = (Guard(task, Blocklist(["fuck", "kk"])) for _ in range(2))
    guard._limit = 0
    generator = np.random.default_rng(0)
    for _ in range(50):
        rows = generator.integers(2, size=5)
        state = filtering.mdp.initial(task.rules, task.prompt_table[rows], None, rows)
        while not filtering.mdp.terminal(task.rules, state).any():
            allowed = guard.allowed(state)
            assert (allowed == other.allowed(state)).all()
            assert (allowed == Guard(task, Blocklist(["fuck", "kk"])).allowed(state)).all()
            allowed[:, task.rules.end_token] = False
            tokens = [generator.choice(np.flatnonzero(row)) for row in allowed]
            state = filtering.mdp.transition(task.rules, state, np.array(tokens))


def test_exact_values_under_a_mask():
    # a, b and the end, two tokens: of the 7 texts "ab" and "ba" hold a pattern.
    task = make(CharacterVocabulary("ab", end="$"), max_tokens=2)
    task = task.with_changes(reward=length(unit="characters"))
    patterns = ["ab", "ba"]
    # 1/3·0 + 2/3·(1/2·1 + 1/2·2) = 1; without the list 2/3·(1/3·1 + 2/3·2) = 10/9.
    uniform = np.ones(3) / 3
    assert exact.value(task, allowed_by(task, patterns)) == pytest.approx(1.0)
    assert exact.value(task, lambda prefixes: np.tile(uniform, (len(prefixes), 1))) == (
        pytest.approx(10 / 9)
    )
    optimum = exact.optimum(task, allowed=allowed_by(task, patterns))
    assert sorted(optimum.texts) == ["aa", "bb"]
    assert sorted(exact.optimum(task, allowed=allowed_by(task, ["aa", "bb", "ab"])).texts) == ["ba"]
    # A policy is renormalised: π = (1/2, 1/4, 1/4), after "a" (2/3, 0, 1/3), after "b" (0, 1/2,
    # 1/2).
    skewed = np.array([0.5, 0.25, 0.25])
    masked = allowed_by(task, patterns, lambda prefixes: np.tile(skewed, (len(prefixes), 1)))
    expected = 0.5 * (2 / 3 * 2 + 1 / 3 * 1) + 0.25 * (1 / 2 * 2 + 1 / 2 * 1)
    assert exact.value(task, masked) == pytest.approx(expected)
