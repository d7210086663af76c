"""ToyTranslation-v0: its grammar, its sentences, its model, and an agent that learns it."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import textenv
from benchmarks import translation_grammar as grammar
from benchmarks.pretrain_translator import TEST, TRAIN, tokenizer
from textenv.models import Prefixes, Seq2SeqLM, load
from textenv.rewards import edit_similarity
from textenv.rewards.edits import edits
from textenv.tasks.toy_translation import SENTENCES, toy_translation
from textenv_agents import PolicyGradient, evaluate

ID = "textenv/ToyTranslation-v0"
SHIPPED = Path(textenv.__file__).parent / "data" / "translator"


@pytest.fixture(scope="module")
def sentences():
    return list(grammar.pairs(TRAIN + TEST, np.random.default_rng(0)).values())


def translations(sentences, wanted, *mistakes):
    found = next(s for s in sentences if s.english == wanted)
    return "".join(grammar.chinese(found, mistakes))


def test_the_shipped_sentences_are_those_of_the_grammar(sentences):
    lines = [f"{s.english}\t{''.join(grammar.chinese(s))}" for s in sentences]
    shipped = [(SENTENCES / f"{name}.tsv").read_text("utf-8").splitlines()
               for name in ("train", "test")]  # fmt: skip
    assert shipped == [lines[:TRAIN], lines[TRAIN:]]
    english = [line.split("\t")[0] for line in lines]
    assert len(set(english)) == len(english)  # nothing of the test split is trained on


@pytest.mark.parametrize(
    ("english", "right", "mistake", "wrong"),
    [
        ("he read two newspapers last week .", "他上周读了两份报纸。", "measure",
         "他上周读了两个报纸。"),
        ("he read two newspapers last week .", "他上周读了两份报纸。", "aspect",
         "他上周读两份报纸。"),
        ("we did not see her student last week .", "我们上周没看见她的学生。", "aspect",
         "我们上周不看见她的学生。"),
        ("his student will buy a car tomorrow .", "他的学生明天会买一辆车。", "order",
         "他的学生会买一辆车明天。"),
        ("an interesting doctor reads this newspaper at school every day .",
         "一位有趣的医生每天在学校读这份报纸。", "order", "一位有趣的医生读这份报纸在学校每天。"),
        ("that friend is buying a black shirt in the park .", "那个朋友正在公园买一件黑衬衫。",
         "aspect", "那个朋友在公园买一件黑衬衫。"),
        ("are three tables white ?", "三张桌子是白的吗？", "de", "三张桌子是白吗？"),
        # States take no 了, and 旧 is said of things, 老 of people.
        ("my interesting friend liked this cat yesterday .", "我的有趣的朋友昨天喜欢这只猫。", "de",
         "我有趣朋友昨天喜欢这只猫。"),
        ("they read this old newspaper last week .", "他们上周读了这份旧报纸。", "aspect",
         "他们上周读这份旧报纸。"),
        ("will her old doctor eat three cakes next week ?", "她的老医生下周会吃三块蛋糕吗？",
         "measure", "她的老医生下周会吃三个蛋糕吗？"),
    ],
)  # fmt: skip
def test_translations_and_mistakes(sentences, english, right, mistake, wrong):
    assert translations(sentences, english) == right
    assert translations(sentences, english, mistake) == wrong


def test_the_careless_translator_errs_now_and_then(sentences):
    generator = np.random.default_rng(0)
    _, words = grammar.vocabulary()
    right = ["".join(grammar.chinese(one)) for one in sentences]
    written = ["".join(grammar.careless(one, words, generator)) for one in sentences]
    rewards = np.array(edit_similarity()([""] * len(right), written, reference=right))
    assert 0.7 < rewards.mean() < 0.85
    assert 0.05 < (rewards == 1).mean() < 0.35


def test_the_shipped_tokenizer_is_made_of_the_grammars_words(sentences):
    shipped, made = load("translator").vocabulary, tokenizer()
    assert [shipped.token(number) for number in range(shipped.size)] == [
        made.convert_ids_to_tokens(number) for number in range(len(made))
    ]
    for one in sentences:
        words = grammar.chinese(one)
        ids = shipped.encode("".join(words))
        assert [shipped.token(number) for number in ids] == words
        assert shipped.decode(ids) == "".join(words)
        assert shipped.decode(shipped.encode_prompt(one.english)) == one.english
        assert 2 not in [*ids, *shipped.encode(one.english)]  # nothing is unknown


def test_the_environment():
    env = gym.make(ID).unwrapped
    rules = env.task.rules
    assert len(env.task.prompts) == TRAIN
    longest = max(len(env.task.vocabulary.encode(text)) for text in env.task.columns["reference"])
    assert longest < rules.max_tokens  # room for the end token, and for mistakes
    place = env.task.prompts.index("he read two newspapers last week .")
    for text, reward in [("他上周读了两份报纸。", 1.0), ("他上周读两个报纸。", 0.8)]:
        env.reset(options={"prompt_index": place})
        for token in [*env.task.vocabulary.encode(text), rules.end_token]:
            _, paid, ended, _, _ = env.step(token)
        assert (paid, ended) == (pytest.approx(reward), True)
    assert isinstance(env.lm, Seq2SeqLM)
    assert env.lm.refills
    assert sum(parameter.numel() for parameter in env.lm.parameters()) < 1_000_000
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2_500_000


def test_the_translator_opens_in_transformers():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    library = AutoModelForSeq2SeqLM.from_pretrained(SHIPPED, dtype=torch.float32)
    inputs = tokenizer("he likes my white cat .", return_tensors="pt")
    assert inputs.input_ids[0].tolist()[-1] == tokenizer.eos_token_id
    output = library.generate(**inputs, do_sample=False, max_new_tokens=20)
    theirs = tokenizer.decode(output[0], skip_special_tokens=True)
    env = gym.make(ID).unwrapped
    env.reset(options={"prompt": "he likes my white cat ."})
    ended = False
    while not ended:
        logits = env.lm.next(Prefixes.of(env.task.rules, env.state)).logits
        _, _, ended, _, _ = env.step(int(logits.argmax()))
    assert env.text == theirs == "他喜欢我的白猫。"


def test_keywords():
    assert len(gym.make(ID, split="test").unwrapped.task.prompts) == TEST
    own = {"prompts": ["he likes cats ."], "references": ["他喜欢猫。"]}
    assert gym.make(ID, **own).unwrapped.task.columns == {"reference": ["他喜欢猫。"]}
    del own["references"]
    assert gym.make(ID, reward="length", **own).unwrapped.task.reward.name == "length"
    with pytest.raises(ValueError, match=r"needs the columns \['reference'\]"):
        gym.make(ID, **own)
    with pytest.raises(ValueError, match="expected split= to be one of"):
        gym.make(ID, split="dev")
    with pytest.raises(ValueError, match="translations of prompts=: give both"):
        toy_translation(references=["他喜欢猫。"])


def test_edits_by_hand():
    # intention → execution: delete i, n→e, t→x, insert c, n→u
    assert edits("intention", "execution") == edits("execution", "intention") == 5
    assert (edits("", "abc"), edits("abc", ""), edits("", ""), edits("abc", "abc")) == (3, 3, 0, 0)
    words = edit_similarity(unit="words")
    assert words([""], ["the black cat"], reference=["the cat"]) == [pytest.approx(2 / 3)]
    assert words([""], [" "], reference=[""]) == [1.0]
    assert edit_similarity()(["", "", ""], ["", "ab", "x"], reference=["ab", "", None]) == [
        0.0, 0.0, None,
    ]  # fmt: skip
    assert edit_similarity(unit="words").spec() == {"name": "edit_similarity", "unit": "words"}
    with pytest.raises(ValueError, match='unit must be "characters" or "words"'):
        edit_similarity(unit="tokens")
    with pytest.raises(ValueError, match="needs the column 'reference'"):
        edit_similarity()([""], ["a"])


def test_the_translator_improves():
    agent = PolicyGradient(None, ID, learning_rate=5e-4, seed=0)
    measure = {"reference": agent.reference, "texts": 250, "split": "test"}
    before = evaluate(agent.policy, ID, **measure).reward
    agent.learn(12_000)
    after = evaluate(agent.policy, ID, **measure).reward
    assert 0.65 < before.mean < 0.73
    assert after.low > before.high
    assert after.mean > before.mean + 0.05
