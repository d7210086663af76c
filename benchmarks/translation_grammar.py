"""A small grammar that writes English sentences with their Chinese translations.

It is not word for word: measure words (一本书), times and places before the verb, aspect (买了,
没买, 正在买), 的 after some adjectives, two words for "old", 很 before a predicate, 吗 in
questions. A careless translator, who makes the mistakes of a beginner, shares the grammar: the
shipped model learned from what that one wrote. The words are in `translation_words`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.translation_words import (
    ADJECTIVES,
    ANIMAL,
    DETERMINERS,
    NOUNS,
    PERSON,
    PLACES,
    PRONOUNS,
    TIMES,
    VERBS,
    Adjective,
    Noun,
    Verb,
)

MISTAKES = {"order": 0.4, "measure": 0.5, "aspect": 0.4, "de": 0.3}
"""The careless translator's habits, and how often each takes over a sentence."""
SLIP = 0.04  # how often a word is left out, and how often another one stands in its place


class Phrase(NamedTuple):
    """A noun phrase in both languages."""

    english: str
    chinese: tuple[str, ...]
    without_measure: tuple[str, ...]  # with 个 in place of each measure word
    without_de: tuple[str, ...]
    object: str
    singular: bool
    kind: str


class Sentence(NamedTuple):
    """What is said: English words, and the parts that Chinese orders otherwise."""

    english: str
    subject: Phrase
    object: Phrase | None
    tense: str
    verb: Verb | None
    adjective: str
    colour: bool
    negative: bool
    question: bool
    time: str
    place: str


def pairs(number: int, generator: np.random.Generator) -> dict[str, Sentence]:
    """Write that many different sentences, by their English."""
    found: dict[str, Sentence] = {}
    while len(found) < number:
        sentence = _sentence(generator)
        found.setdefault(sentence.english, sentence)
    return found


def chinese(sentence: Sentence, mistakes: Collection[str] = ()) -> list[str]:
    """Translate, in words; with mistakes of the kinds in `MISTAKES`.

    >>> one = list(pairs(9, np.random.default_rng(3)).values())[8]
    >>> one.english, "".join(chinese(one)), "".join(chinese(one, {"order"}))
    ('i will see her next week .', '我下周会看见她。', '我会看见她下周。')
    """
    s, negative = sentence, sentence.negative
    end = ["吗", "？"] if s.question else ["。"]
    if s.verb is None:
        middle = ["不"] if negative else []
        if s.colour:
            predicate = [*middle, "是", s.adjective, *([] if "de" in mistakes else ["的"])]
        else:
            plain = negative or s.question or "aspect" in mistakes  # then without 很
            predicate = [*middle, *([] if plain else ["很"]), s.adjective]
        return [*_words(s.subject, mistakes), *predicate, *end]
    before, after = _aspect(s, careless="aspect" in mistakes)
    time = [s.time] if s.time else []
    place = ["在", s.place] if s.place else []
    if before == ["正", "在"] and place:
        before = ["正"]  # 正在家, not 正在在家
    assert s.object is not None
    verb = [s.verb.chinese, *after, *_words(s.object, mistakes)]
    subject = _words(s.subject, mistakes)
    if "order" in mistakes:
        return [*subject, *before, *verb, *place, *time, *end]
    return [*subject, *time, *before, *place, *verb, *end]


def careless(sentence: Sentence, words: Sequence[str], generator: np.random.Generator) -> list[str]:
    """Translate as the careless translator does.

    Args:
        sentence: What is said.
        words: What may stand in another word's place.
        generator: Decides on the mistakes.
    """
    mistakes = {name for name, often in MISTAKES.items() if generator.random() < often}
    written = []
    for word in chinese(sentence, mistakes):
        fate = generator.random()
        if fate >= SLIP:
            written.append(str(generator.choice(words)) if fate < 2 * SLIP else word)
    return written


def vocabulary() -> tuple[list[str], list[str]]:
    """Return all English and all Chinese words that sentences are made of, in order."""
    generator = np.random.default_rng(0)
    sentences = pairs(20_000, generator).values()
    english = {word for sentence in sentences for word in sentence.english.split()}
    translated = {word for sentence in sentences for word in chinese(sentence)}
    return sorted(english), sorted(translated | {"个"})


def _aspect(s: Sentence, *, careless: bool) -> tuple[list[str], list[str]]:
    """What stands before and after the verb for tense and negation."""
    assert s.verb is not None
    stative = s.verb.lasting == "stative"
    if s.tense == "past" and not stative:
        if s.negative:
            return (["不"] if careless else ["没"]), []
        return [], ([] if careless else ["了"])
    if s.tense == "progressive":
        if s.negative:
            return ["没" if not careless else "不", *([] if s.place else ["在"])], []
        return ([] if careless else ["正", "在"]), []
    modal = {"future": ["会"], "can": ["能"]}.get(s.tense, [])
    return [*(["不"] if s.negative else []), *modal], []


def _words(phrase: Phrase, mistakes: Collection[str]) -> tuple[str, ...]:
    if "measure" in mistakes:
        return phrase.without_measure
    return phrase.without_de if "de" in mistakes else phrase.chinese


def _sentence(generator: np.random.Generator) -> Sentence:
    negative, question = generator.random(2) < (0.25, 0.2)
    if generator.random() < 0.15:
        return _description(generator, bool(negative), bool(question))
    verb = _one(VERBS, generator)
    tenses = ["present", "past", "future", "can"] + ["progressive"] * (verb.lasting == "")
    if verb.lasting == "stative":
        tenses = ["present", "past"]
    tense = _one(tenses, generator)
    subject = _subject(generator)
    object_ = _object(verb, generator)
    time = _one(["", *TIMES[tense]], generator) if generator.random() < 0.7 else ""
    place = _one(list(PLACES), generator) if generator.random() < 0.3 else ""
    if verb.lasting == "stative":
        place = ""
    english = _english(subject, verb, tense, bool(negative), bool(question))
    words = [english, object_.object, place, time, "?" if question else "."]
    return Sentence(
        " ".join(filter(None, words)), subject, object_, tense, verb, "", False,
        bool(negative), bool(question), TIMES[tense].get(time, ""), PLACES.get(place, ""),
    )  # fmt: skip


def _description(generator: np.random.Generator, negative: bool, question: bool) -> Sentence:
    subject = _noun_phrase(_one(NOUNS, generator), generator, adjective=False)
    adjective = _one([a for a in ADJECTIVES if subject.kind in a.kinds], generator)
    be, no = ("is" if subject.singular else "are"), (["not"] if negative else [])
    start = [be, subject.english] if question else [subject.english, be]
    english = " ".join([*start, *no, adjective.english, "?" if question else "."])
    return Sentence(
        english, subject, None, "present", None, _of(adjective, subject.kind), adjective.colour,
        negative, question, "", "",
    )  # fmt: skip


def _english(subject: Phrase, verb: Verb, tense: str, negative: bool, question: bool) -> str:
    """Subject and verb; "do" where English needs it."""
    if tense == "progressive":
        be = "am" if subject.english == "i" else "is" if subject.singular else "are"
        helper, main = be, verb.progressive
    else:
        helpers = {"present": "does" if subject.singular else "do", "past": "did"}
        helper, main = helpers.get(tense, "will" if tense == "future" else "can"), verb.base
    no = ["not"] if negative else []
    if question:
        return " ".join([helper, subject.english, *no, main])
    if tense in ("present", "past") and not negative:
        finite = verb.past if tense == "past" else verb.third if subject.singular else verb.base
        return f"{subject.english} {finite}"
    return " ".join([subject.english, helper, *no, main])


def _subject(generator: np.random.Generator) -> Phrase:
    if generator.random() < 0.5:
        return _pronoun(_one(list(PRONOUNS), generator))
    people = [noun for noun in NOUNS if noun.kind == PERSON]
    return _noun_phrase(_one(people, generator), generator)


def _object(verb: Verb, generator: np.random.Generator) -> Phrase:
    if PERSON in verb.objects and generator.random() < 0.2:
        return _pronoun(_one(list(PRONOUNS), generator))
    fitting = [noun for noun in NOUNS if noun.kind in verb.objects]
    return _noun_phrase(_one(fitting, generator), generator)


def _pronoun(name: str) -> Phrase:
    accusative, translated = PRONOUNS[name]
    one = (translated,)
    return Phrase(name, one, one, one, accusative, name in ("he", "she"), PERSON)


def _noun_phrase(noun: Noun, generator: np.random.Generator, *, adjective: bool = True) -> Phrase:
    english = _one(list(DETERMINERS), generator)
    determiner, measured, plural = DETERMINERS[english]
    fitting = [a for a in ADJECTIVES if noun.kind in a.kinds]
    chosen = (
        _one(fitting, generator) if adjective and fitting and generator.random() < 0.4 else None
    )
    words = ([chosen.english] if chosen else []) + [noun.plural if plural else noun.singular]
    article = "an" if english == "a" and words[0][0] in "aeiou" else english
    text = " ".join([article, *words])

    def translated(measure: str, de: list[str]) -> tuple[str, ...]:
        link = [measure] if measured else de if determiner else []
        of = [_of(chosen, noun.kind), *(de if chosen.de else [])] if chosen else []
        return tuple([*([determiner] if determiner else []), *link, *of, noun.chinese])

    return Phrase(
        text, translated(noun.measure, ["的"]), translated("个", ["的"]),
        translated(noun.measure, []), text, not plural, noun.kind,
    )  # fmt: skip


def _of(adjective: Adjective, kind: str) -> str:
    living = kind in (PERSON, ANIMAL)
    return adjective.chinese if living or not adjective.of_things else adjective.of_things


def _one(choices: Sequence[Any], generator: np.random.Generator) -> Any:
    return choices[int(generator.integers(len(choices)))]
