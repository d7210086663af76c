"""The model card that `pretrain` writes: README.md in the model's folder."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from textenv_agents.pretrain_config import PretrainConfig

if TYPE_CHECKING:
    from textenv_agents.pretrain import PretrainResult

CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A small language model, pretrained on {date} with

```
{command}
```

| | |
|---|---|
| Text | {data} |
| Licence of the text | {licence} |
| Architecture | {architecture}, {layers} layers of width {width} |
| Parameters | {parameters:,}, stored as float16 |
| Vocabulary | {vocabulary} |
| Training | {texts:,} pieces of at most {longest} tokens; {epochs} epochs, the best kept |
| Validation perplexity | {perplexity:.2f} per token |

The perplexity is exp of the mean of −log p over the tokens of the lines that were set aside
({validation_share:.0%} of them), the end token included. {known:.1%} of these tokens are in the
vocabulary; the others are read as `<unk>`, which the model never writes: `suppress_tokens` in
generation_config.json gives `<unk>` and `<s>` the probability 0, and so does the perplexity.{sharp}
"""

SHARP = """
The logits are divided by the temperature {temperature} for good, so that plain sampling reads
better. As trained, at temperature 1, the validation perplexity was {trained:.2f}."""


def model_card(config: PretrainConfig, result: PretrainResult, texts: int) -> str:
    """Say what a pretrained model is: its text, command, size and validation perplexity.

    Args:
        config: The settings.
        result: What came out.
        texts: How many pieces of text it learned from.
    """
    values = dataclasses.asdict(config) | dataclasses.asdict(result)
    values |= {
        "name": config.folder.name,
        "date": datetime.date.today().isoformat(),
        "command": config.command or _command(config),
        "data": config.data or config.text.name,
        "licence": config.licence or "not stated",
        "architecture": {"gpt2": "GPT-2's shape", "lstm": "LSTM"}[config.architecture],
        "vocabulary": f"{result.vocabulary_size:,} {config.tokenizer}s and marks",
        "epochs": len(result.history),
        "texts": texts,
    }
    sharp = SHARP.format(temperature=config.temperature, trained=min(result.history))
    return CARD.format(**values, sharp=sharp if config.temperature != 1 else "")


def _command(config: PretrainConfig) -> str:
    """Write the command line with the settings that are not the default; files by name alone."""
    words = ["textenv", "pretrain"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default or field.name in ("data", "licence"):
            continue
        words.append("--" + field.name.replace("_", "-"))
        values = value if isinstance(value, tuple) else (value,)
        words += [each.name if isinstance(each, Path) else str(each) for each in values]
    return shlex.join(words)
