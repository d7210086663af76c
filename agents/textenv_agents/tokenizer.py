"""Tokenizers for small language models, made from the texts that the model will learn from.

Both kinds are word-level in the sense of the library tokenizers (one id for each piece, `<unk>`
for what is not in the list) and give back exactly the text that they normalised, as long as all
its pieces are known. No byte-pair merging: with little text, whole words read best.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordLevelTrainer
from transformers import PreTrainedTokenizerFast

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
Kind = Literal["word", "character"]

BLANK = "▁"  # marks a piece with a blank in front of it, as in SentencePiece
# "isn't" stays whole, so that a scorer with a lexicon sees the negation; "film's" is two pieces.
PIECE = (
    rf"{BLANK}?\p{{L}}[\p{{L}}\p{{M}}]*n't|'(?:s|re|ve|ll|d|m)(?!\p{{L}})|{BLANK}?[\p{{L}}\p{{M}}]+|"
    rf"{BLANK}?\p{{N}}+|{BLANK}?\.\.\.|{BLANK}?[^{BLANK}]"
)


def train_tokenizer(texts: Iterable[str], kind: Kind, vocabulary_size: int) -> Tokenizer:
    """Take the most frequent words, or characters, of some texts.

    `<s>` is put in front of every encoded text; nothing is put behind it.

    Args:
        texts: What the pieces are counted in.
        kind: "word" (words, numbers and punctuation marks), or "character" for text without
            blanks between its words.
        vocabulary_size: How many pieces at most, the three special ones included.

    >>> tokenizer = train_tokenizer(["It's a dull, dull film."], "word", 20)
    >>> tokenizer.encode("It's a film, dull.").tokens
    ['<s>', '▁It', "'s", '▁a', '▁film', ',', '▁dull', '.']
    >>> tokenizer.decode(tokenizer.encode("It's  a film, dull.").ids)
    "It's a film, dull."
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    straight = [normalizers.Replace(Regex("[‘’]"), "'"), normalizers.Replace(Regex("[“”]"), '"')]
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            *(straight if kind == "word" else []),
            normalizers.Replace(Regex(rf"[\s{BLANK}]+"), " "),
            normalizers.Strip(),
        ]
    )
    if kind == "word":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(BLANK, prepend_scheme="always", split=True),
                pre_tokenizers.Split(Regex(PIECE), "isolated"),
            ]
        )
        tokenizer.decoder = decoders.Metaspace(BLANK, prepend_scheme="always")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        tokenizer.decoder = decoders.Fuse()
    trainer = WordLevelTrainer(
        vocab_size=vocabulary_size, special_tokens=[START, END, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return tokenizer


def for_transformers(tokenizer: Tokenizer, longest: int) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer for the library transformers, which reads at most `longest` tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        padding_side="left",
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )
