"""Pretrain the model that the package ships as `reviews`, and cut the prompts of Sentiment-v0.

The text is the film snippets in the source distribution of vaderSentiment 3.3.2 (MIT; Hutto &
Gilbert 2014): 10,605 snippets of one or two sentences. How long it takes and how the recipe was
found: EXPERIMENTS.md.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python -m benchmarks pretrain_reviews vaderSentiment-3.3.2.tar.gz
"""

from __future__ import annotations

import argparse
import html
import io
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from textenv.files import replaced_folder
from textenv_agents.pretrain import PretrainConfig, pretrain
from textenv_agents.tokenizer import UNKNOWN, train_tokenizer

TOP = "vaderSentiment-3.3.2"
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
VOCABULARY = 4096
MOST_UNKNOWN = 0.3  # snippets with a larger share of unknown words are left out
PROMPTS, PROMPT_WORDS = 2000, 8

# A small model that imitates quotation marks, brackets and stars never closes them, so they go.
TIDY = [
    (r"''|[\"“”*#=+~]", ""),
    (r"[’‘`´]", "'"),
    (r"\s{3,}|\s*–\s*|\s*\[|\]\s*", " - "),  # four blanks stand for a dash
    (r"\((\S+(?: \S+){0,2})\)", r"\1"),  # "(Grant) goes beyond" → "Grant goes beyond"
    (r"\s*\(", " - "),
    (r"\)", " -"),
    (r"(?<!\w)'([^']{1,60})'(?!\w)", r"\1"),  # quoted
    (r"(?<!\w)'|(?<!s)'(?!\w)", ""),  # what is left of quotes; "critics' choice" stays
    (r"\s*/\s*", " / "),
    (r"\s*\.\.+\s*", "... "),
    (r"\s+([,.;:?!])", r"\1"),
    (r"([,;:?!])(?=[^\W\d])", r"\1 "),
    (r"(?: -)+(?=[,.;:?!])", ""),
    (r"^[\W_]+|[\s,;:-]+$", ""),
    (r"\s+", " "),
]
"""Regular expressions and what replaces their matches, in this order."""

TEACHERS: dict[str, dict[str, Any]] = {
    "teacher-gpt2": {
        "layers": 3, "width": 160, "heads": 5, "dropout": 0.3, "word_dropout": 0.1,
        "weight_decay": 0.3, "learning_rate": 1.5e-3, "epochs": 20, "seed": 4,
    },
    "teacher-lstm": {
        "architecture": "lstm", "layers": 1, "width": 320, "dropout": 0.55, "word_dropout": 0.2,
        "weight_decay": 0.1, "learning_rate": 3e-3, "epochs": 16, "seed": 3,
    },
}  # fmt: skip
STUDENT: dict[str, Any] = {
    "layers": 3, "width": 128, "heads": 4, "dropout": 0.1, "weight_decay": 0.1,
    "teacher_weight": 0.9, "epochs": 20, "temperature": 0.85,
}  # fmt: skip

NOTICE = """{what} in this folder {verb} made from the film snippets (movieReviewSnippets) in the
source distribution of vaderSentiment 3.3.2, by C.J. Hutto, under the MIT licence below. Please
cite:

Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis
of Social Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann
Arbor, MI, June 2014.

{licence}"""


def main() -> None:
    """Train the teachers and the model, and write both data folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/pretrain_reviews"), help="for what lies between"
    )
    parser.add_argument("--data", type=Path, default=Path("textenv/data"), help="where to ship it")
    arguments = parser.parse_args()

    with tarfile.open(arguments.archive) as outer:
        licence = outer.extractfile(f"{TOP}/LICENSE.txt").read().decode()
        inner = outer.extractfile(f"{TOP}/additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        rows = archive.extractfile(SNIPPETS).read().decode().splitlines()
    snippets = list(dict.fromkeys(tidy(row.split("\t")[2]) for row in rows if row))

    arguments.work.mkdir(parents=True, exist_ok=True)
    text = arguments.work / "film_snippets.txt"
    text.write_text("\n".join(readable(snippets)), "utf-8")
    model = train(text, arguments.work)
    ship(model, arguments.data / "reviews", licence)
    ship_prompts(snippets, model, arguments.data / "film_snippets", licence)


def tidy(snippet: str) -> str:
    """Bring a snippet into the form that the model shall write.

    >>> tidy("(Grant) is ''great''    mostly...at last")
    'Grant is great - mostly... at last.'
    """
    snippet = html.unescape(snippet)
    for expression, replacement in TIDY:
        snippet = re.sub(expression, replacement, snippet)
    snippet = snippet[:1].upper() + snippet[1:]
    return snippet if snippet.endswith((".", "?", "!")) else snippet + "."


def readable(snippets: list[str]) -> list[str]:
    """Leave out snippets that are mostly names."""
    tokenizer = train_tokenizer(snippets, "word", VOCABULARY)
    tokens = [encoding.tokens for encoding in tokenizer.encode_batch(snippets)]
    return [
        snippet
        for snippet, pieces in zip(snippets, tokens, strict=True)
        if pieces.count(UNKNOWN) <= MOST_UNKNOWN * len(pieces)
    ]


def train(text: Path, work: Path) -> Path:
    """Train the teachers, then the model that learns from them; return its folder."""
    shared = {
        "text": text,
        "vocabulary_size": VOCABULARY,
        "data": "the film snippets of vaderSentiment 3.3.2 (Hutto & Gilbert 2014), see NOTICE",
        "licence": "MIT, see NOTICE",
        "command": "python -m benchmarks pretrain_reviews vaderSentiment-3.3.2.tar.gz",
    }
    teachers = tuple(work / name for name in TEACHERS)
    runs = TEACHERS | {"reviews": STUDENT | {"teachers": teachers}}
    for name, settings in runs.items():
        if not (work / name).exists():  # a run that was interrupted goes on where it was
            print(pretrain(PretrainConfig(folder=work / name, **shared, **settings)))
    return work / "reviews"


def ship(trained: Path, folder: Path, licence: str) -> None:
    """Copy a model's folder into the package, with the notice."""
    with replaced_folder(folder) as temporary:
        shutil.copytree(trained, temporary, dirs_exist_ok=True)
        (temporary / "model.safetensors").chmod(0o644)
        notice = NOTICE.format(what="The language model", verb="was", licence=licence)
        (temporary / "NOTICE").write_text(notice, "utf-8")


def ship_prompts(snippets: list[str], model: Path, folder: Path, licence: str) -> None:
    """Write the first words of snippets if the model knows them all, good and bad mixed."""
    openings = [
        " ".join(words[:PROMPT_WORDS])
        for words in map(str.split, snippets)
        if len(words) >= PROMPT_WORDS
    ]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokens = [encoding.tokens for encoding in tokenizer.encode_batch(openings)]
    known = [line for line, pieces in zip(openings, tokens, strict=True) if UNKNOWN not in pieces]
    # The file begins with the well rated snippets: take every n-th.
    chosen = [known[i * len(known) // PROMPTS] for i in range(PROMPTS)]
    with replaced_folder(folder) as temporary:
        (temporary / "prompts.txt").write_text("\n".join(chosen) + "\n", "utf-8")
        notice = NOTICE.format(what="The prompts", verb="were", licence=licence)
        (temporary / "NOTICE").write_text(notice, "utf-8")


if __name__ == "__main__":
    main()
