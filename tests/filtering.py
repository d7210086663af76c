"""What the tests of the filter share: a checker of its own, and tokenizers made on the spot.

The checker knows nothing of the automaton: it compares whole texts, by `unicodedata` alone.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from textenv import mdp
from textenv.enumeration import take
from textenv.vocabulary import TokenizerVocabulary

SEPARATES = {"Z", "P", "C", "Sm", "Sk", "Me"}
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u0640\u2800\ufffd\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def without_separators(text):
    text = UNSEEN.sub("", text)
    return "".join(
        c for c in text if not {unicodedata.category(c), unicodedata.category(c)[0]} & SEPARATES
    )


def promised(text):
    """NFKC, case folding and removal of separators: what the promise speaks of."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", without_separators(folded))


def bare(text):
    """The same without accents, and with letters taken apart: what is compared in the end."""
    for _ in range(3):
        text = unicodedata.normalize("NFKD", text).casefold().replace("ı", "i").replace("ȷ", "j")
    text = without_separators(text)
    return "".join(c for c in text if not unicodedata.combining(c))


def holds(patterns, prompt, text, form=bare):
    """Whether a pattern ends in the text, by trying each pattern at each place."""
    before = form(prompt)
    whole = before + form(text)
    for pattern in patterns:
        parts = [re.escape(form(part)) for part in pattern.split("?")]
        found = re.finditer(f"(?=({'.'.join(parts)}))", whole, re.DOTALL)
        if any(match.end(1) > len(before) for match in found):
            return True
    return False


def clean_texts(task, patterns, prompt):
    """Every finished text that holds no pattern at any moment, as ids; nothing suppressed in it."""
    rules, decode = task.rules, task.vocabulary.decode
    tokens = sorted(set(range(rules.vocabulary_size)) - set(task.vocabulary.suppressed_tokens))
    finished, open_texts = set(), [()]
    while open_texts:
        longer = [(*ids, token) for ids in open_texts for token in tokens]
        written = {ids: ids[:-1] if ids[-1] == rules.end_token else ids for ids in longer}
        clean = [ids for ids in longer if not holds(patterns, prompt, decode(written[ids]))]
        over = {
            ids for ids in clean if len(ids) == rules.max_tokens or ids[-1] in rules.ending_tokens
        }
        finished |= over
        open_texts = [ids for ids in clean if ids not in over]
    return finished


def reachable_texts(task, guard, prompt_index):
    """Every finished text that a mask leads to, as ids; and that it never leads to a dead end."""
    rules = task.rules
    state = mdp.initial(rules, task.prompt_table[[prompt_index]], None, np.array([prompt_index]))
    finished = set()
    while len(state.tokens):
        allowed = guard.allowed(state)
        allowed[:, list(task.vocabulary.suppressed_tokens)] = False
        assert allowed.any(axis=1).all()
        rows, tokens = np.nonzero(allowed)
        state = mdp.transition(rules, take(state, rows), tokens)
        over = mdp.terminal(rules, state)
        for row in np.flatnonzero(over):
            written = state.tokens[row, rules.prompt_length :]
            finished.add(tuple(written[written != rules.nothing].tolist()))
        state = take(state, np.flatnonzero(~over))
    return finished


def byte_fallback(tokens, codes=range(256)):
    """A vocabulary as SentencePiece's: three special tokens, bytes, and these."""
    from tokenizers import Tokenizer, decoders, models

    special = ["<unk>", "<s>", "</s>"]
    names = [*special, *(f"<0x{code:02X}>" for code in codes), *tokens]
    model = models.BPE(
        vocab={name: i for i, name in enumerate(names)},
        merges=[],
        byte_fallback=True,
        unk_token="<unk>",
    )
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return TokenizerVocabulary(tokenizer, end_token=2)


def byte_tokens(tokens):
    """A byte-level vocabulary of exactly these tokens, each some bytes, behind its end token."""
    from tokenizers import Tokenizer, decoders, models

    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(hidden)}
    names = ["<end>", *("".join(letters[byte] for byte in token) for token in tokens)]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.decoder = decoders.ByteLevel()
    return TokenizerVocabulary(tokenizer, end_token=0)


def byte_level(texts, size=400):
    """A byte-level BPE tokenizer, trained on the spot."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TokenizerVocabulary(tokenizer, end_token=0)


def word_piece(words):
    from tokenizers import Tokenizer, decoders, models

    names = ["[UNK]", "[SEP]", *words]
    model = models.WordPiece(vocab={name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["[SEP]", "[UNK]"])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return TokenizerVocabulary(tokenizer, end_token=1)
