"""Make `textenv/data/human_ratings` from the source distribution of vaderSentiment 3.3.2 (MIT).

What the files hold, and what was found odd in them, is in `textenv/preferences/human_ratings.py`.
The same archive gives the same bytes.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    tar -xzf vaderSentiment-3.3.2.tar.gz
    cd vaderSentiment-3.3.2 && tar -xzf additional_resources/hutto_ICWSM_2014.tar.gz
    python -m benchmarks convert_human_ratings hutto_ICWSM_2014 LICENSE.txt
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
from pathlib import Path

from textenv.files import replaced_folder
from textenv.preferences.human_ratings import FILES, FOLDER

ORIGINALS = {
    "movies": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "news": "nytEditorialSnippets",
    "tweets": "tweets",
}

NOTICE = """The texts and ratings in this folder were made from the files *_GroundTruth.txt and
*_anonDataRatings.txt in the source distribution of vaderSentiment 3.3.2, by C.J. Hutto, under the
MIT licence below. HTML entities in the texts were resolved; nothing else was changed. The texts are
those of Pang & Lee (2004), of Hu & Liu (2004), of New York Times editorials and of tweets, as Hutto
& Gilbert collected them. Please cite:

Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis
of Social Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann
Arbor, MI, June 2014.

{licence}"""


def main() -> None:
    """Write one file a source, and the notice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="hutto_ICWSM_2014, unpacked")
    parser.add_argument("licence", type=Path, help="LICENSE.txt of the source distribution")
    parser.add_argument("--to", type=Path, default=FOLDER, help="where to write")
    arguments = parser.parse_args()
    with replaced_folder(arguments.to) as temporary:
        for source, name in ORIGINALS.items():
            lines = converted(arguments.folder, name)
            data = "\n".join(lines).encode("utf-8") + b"\n"
            # mtime=0: the same lines give the same bytes.
            (temporary / FILES[source]).write_bytes(gzip.compress(data, 9, mtime=0))
            print(f"{source:8}{len(lines):7,} texts")
        licence = arguments.licence.read_text("utf-8").replace("\r\n", "\n")
        (temporary / "NOTICE").write_text(NOTICE.format(licence=licence), "utf-8")


def converted(folder: Path, name: str) -> list[str]:
    """Join texts and single ratings by their id: id, ratings, text.

    Raises:
        ValueError: an id that is doubled or has no ratings, or a text with a tab.
    """
    texts = rows(folder / f"{name}_GroundTruth.txt", 3)
    ratings = rows(folder / f"{name}_anonDataRatings.txt", 4)
    by_id = {row[0]: json.loads(row[3]) for row in ratings}
    if len(by_id) != len(ratings) or len({row[0] for row in texts}) != len(texts):
        raise ValueError(f"{name}: expected each id once")
    if by_id.keys() != {row[0] for row in texts}:
        raise ValueError(f"{name}: expected texts and ratings of the same ids")
    lines = []
    for number, _, text in texts:
        given = " ".join(str(int(rating)) for rating in by_id[number])
        plain = html.unescape(html.unescape(text))  # the editorials' were escaped twice
        lines.append("\t".join([number, given, plain]))
    return lines


def rows(path: Path, columns: int) -> list[list[str]]:
    """Read the rows of a file; one begins with a byte-order mark, one has it not."""
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    table = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
    wrong = next((row for row in table if len(row) != columns), None)
    if wrong is not None:
        raise ValueError(f"{path.name}: expected {columns} columns, got {wrong!r}")
    return table


if __name__ == "__main__":
    main()
