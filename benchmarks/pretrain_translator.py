"""Pretrain the model that the package ships as `translator`, and write the prompts of its task.

A small T5 learns from the careless translator of `translation_grammar`, so that it knows the words
and most of the grammar, and makes the mistakes too: what is left for reinforcement learning is to
prefer the right translations. All text is our own. A few minutes on one thread.

    python -m benchmarks pretrain_translator
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from benchmarks import translation_grammar as grammar
from textenv.files import replaced_folder
from textenv.models import Seq2SeqLM
from textenv.vocabulary import TokenizerVocabulary

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1, 2, as T5 has them
BLANK = "▁"  # marks an English word; Chinese is written without blanks
TRAIN, TEST = 2000, 500
IGNORED = -100  # what the library's loss leaves out
LAST_RATE = 0.05

CARD = """---
library_name: transformers
pipeline_tag: translation
---
# translator

A small encoder–decoder model that translates the English of a toy grammar into Chinese, with
mistakes; pretrained on {date} with

```
python -m benchmarks pretrain_translator
```

| | |
|---|---|
| Text | {pairs:,} pairs of `benchmarks/translation_grammar.py`, see NOTICE |
| Licence of the text | this project's own |
| Architecture | T5's shape, {layers} + {layers} layers of width {width} |
| Parameters | {parameters:,}, stored as float16 |
| Vocabulary | {vocabulary} words and marks, {english} of them English |
| Training | {steps:,} steps of {batch} pairs, {seconds:.0f} s on one thread |
| Loss | {loss:.3f} nats a token, on the careless translations of other sentences |

The pairs are a careless translator's: in {order:.0%} of the sentences times and places stay at the
end, {measure:.0%} have 个 for every measure word, {aspect:.0%} lose their aspect, {de:.0%} some 的;
{slip:.0%} of the words are missing and as many are wrong. None of the sentences is a prompt of
`textenv/ToyTranslation-v0`. What the model writes, at temperature 1, is worth a little less
than its teacher's texts: the task is to do better than both.
"""
NOTICE = """The sentences {what} were written by benchmarks/translation_grammar.py, a grammar made
for this project. They are under the project's own licence (Apache-2.0); no other text was used.
"""


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig:
    """The model and its training."""

    data: Path = Path("textenv/data")
    """Where to ship it."""
    layers: int = 2
    """Of the encoder, and as many of the decoder."""
    width: int = 128
    """H."""
    pairs: int = 20_000
    """How many sentences, each translated once."""
    steps: int = 2500
    """Gradient steps."""
    batch: int = 64
    """Pairs a step."""
    learning_rate: float = 2e-3
    """AdamW's at the start; it falls along a cosine."""
    seed: int = 0
    """Fixes sentences, mistakes, weights and order."""


def main() -> None:
    """Write both data folders."""
    config = tyro.cli(TranslatorConfig, prog="python -m benchmarks pretrain_translator")
    torch.set_num_threads(1)  # so that the same seed gives the same weights
    generator = np.random.default_rng(config.seed)
    everything = grammar.pairs(TRAIN + TEST + config.pairs + TEST, generator)
    sentences = list(everything.values())
    ship_sentences(sentences[: TRAIN + TEST], config.data / "toy_translation")
    vocabulary = TokenizerVocabulary(tokenizer(), suppressed_tokens=[0, 2])
    _, chinese = grammar.vocabulary()
    pairs = [
        encoded(vocabulary, sentence, grammar.careless(sentence, chinese, generator))
        for sentence in sentences[TRAIN + TEST :]
    ]
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = new_network(config, vocabulary)
        train(network, pairs[: config.pairs], config, generator)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        held_out = float(network.eval()(**batch(pairs[config.pairs :])).loss)
    ship(network, vocabulary, config, held_out, seconds)


def ship_sentences(sentences: list[grammar.Sentence], folder: Path) -> None:
    """Write the prompts and their right translations."""
    with replaced_folder(folder) as temporary:
        for name, part in (("train", sentences[:TRAIN]), ("test", sentences[TRAIN:])):
            lines = [f"{one.english}\t{''.join(grammar.chinese(one))}\n" for one in part]
            (temporary / f"{name}.tsv").write_text("".join(lines), "utf-8")
        (temporary / "NOTICE").write_text(NOTICE.format(what="in this folder"), "utf-8")


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words of both languages: `▁cat`, `猫`; the fewest that make up the text.

    >>> words = tokenizer()
    >>> words.convert_ids_to_tokens(words("she likes cats .").input_ids)
    ['▁she', '▁likes', '▁cats', '▁.', '</s>']
    >>> words.tokenize("她喜欢猫。"), words.decode(words("她喜欢猫。").input_ids[:-1])
    (['她', '喜欢', '猫', '。'], '她喜欢猫。')
    """
    english, chinese = grammar.vocabulary()
    words = [PAD, END, UNKNOWN, *(BLANK + word for word in english), *chinese]
    made = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=2))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Strip(),
            normalizers.Prepend(BLANK),
            normalizers.Replace(Regex(r"\s+"), BLANK),
            normalizers.Replace(Regex(rf"{BLANK}+(?![{BLANK}a-z.?])"), ""),  # Chinese has none
        ]
    )
    made.decoder = decoders.Metaspace(BLANK, prepend_scheme="always")
    made.add_special_tokens([PAD, END, UNKNOWN])
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=PAD, unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def encoded(
    vocabulary: TokenizerVocabulary, sentence: grammar.Sentence, translation: list[str]
) -> tuple[list[int], list[int]]:
    """Ids of source and target, the end token behind both."""
    ends = [vocabulary.end_token]
    target = [vocabulary.tokenizer.convert_tokens_to_ids(word) for word in translation]
    return vocabulary.encode(sentence.english) + ends, target + ends


def new_network(config: TranslatorConfig, vocabulary: TokenizerVocabulary) -> Any:
    """Draw the first weights."""
    network = T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary.size, d_model=config.width, d_kv=32, d_ff=2 * config.width,
            num_layers=config.layers, num_heads=config.width // 32, dropout_rate=0.0,
            relative_attention_num_buckets=16, relative_attention_max_distance=32,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    network.generation_config.suppress_tokens = list(vocabulary.suppressed_tokens)
    network.generation_config.do_sample = True
    return network


def train(
    network: Any,
    pairs: list[tuple[list[int], list[int]]],
    config: TranslatorConfig,
    generator: np.random.Generator,
) -> None:
    """Minimise the mean of −log p over the target tokens."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    for step in range(config.steps):
        chosen = generator.integers(len(pairs), size=config.batch)
        falling = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * falling * min(1.0, (step + 1) / 50)
        loss = network(**batch([pairs[number] for number in chosen])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:5}  loss {loss.item():.3f}")


def batch(pairs: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Pad pairs for the library's model, int64 [B, S] and [B, L]."""
    sources, targets = ([torch.tensor(ids) for ids in side] for side in zip(*pairs, strict=True))
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(sources, batch_first=True)
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "labels": pad(targets, batch_first=True, padding_value=IGNORED),
    }


def ship(
    network: Any, vocabulary: TokenizerVocabulary, config: TranslatorConfig, loss: float,
    seconds: float,
) -> None:  # fmt: skip
    """Write the model's folder, card and notice included."""
    english, _ = grammar.vocabulary()
    card = CARD.format(
        date=date.today(), pairs=config.pairs, layers=config.layers, width=config.width,
        parameters=sum(p.numel() for p in network.parameters()), vocabulary=vocabulary.size,
        english=len(english), steps=config.steps, batch=config.batch, seconds=seconds, loss=loss,
        **grammar.MISTAKES, slip=grammar.SLIP,
    )  # fmt: skip
    folder = config.data / "translator"
    Seq2SeqLM(network, vocabulary).save_pretrained(folder, dtype=torch.float16)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "README.md").write_text(card, "utf-8")
    notice = NOTICE.format(what="that the model in this folder learned from")
    (folder / "NOTICE").write_text(notice, "utf-8")


if __name__ == "__main__":
    main()
