"""Random names for raters, which say nothing of who they are and can be typed again."""

from __future__ import annotations

import hashlib
import secrets

_QUALITIES = (
    "able amber bold brave brisk calm clear cosy deep eager early fair fine fond free fresh gentle "
    "glad golden good grand green happy keen kind late light lively loyal lucky mellow mild neat "
    "noble patient plain proud quick quiet ready rosy round sharp silver smart soft steady still "
    "strong sunny swift tall tidy true warm wide wild wise witty young"
)
_THINGS = (
    "acorn alder apple aspen badger beaver birch brook cedar cherry cloud clover comet coral crane "
    "daisy delta dolphin dove falcon fern finch forest fox garden grove harbor hazel heron hill "
    "island ivy jasmine lake lark leaf linden lotus maple meadow moon moss oak olive otter owl "
    "panda pearl pebble pine plum poppy rain raven reed river robin rose sparrow star stone swan "
    "tulip willow"
)


def new_pseudonym() -> str:
    """Draw one of about 37 million, such as "calm-heron-4821"."""
    number = secrets.randbelow(9000) + 1000
    return f"{secrets.choice(_QUALITIES.split())}-{secrets.choice(_THINGS.split())}-{number}"


def imported_pseudonym(name: str, salt: str) -> str:
    """The pseudonym of a rater whose name stood in a file: the same for the same name.

    Args:
        name: As in the file.
        salt: Of the database; without it nobody can tell names from pseudonyms.

    >>> imported_pseudonym("Ann", "0") == imported_pseudonym("Ann", "0") != "Ann"
    True
    """
    digest = hashlib.blake2b(name.encode(), key=salt.encode(), digest_size=6).hexdigest()
    return f"imported-{digest}"
