"""Perplexity under a fixed language model, by hand on a table and on the shipped models."""

import json
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny_models import VOCABULARY, causal, tabular
from textenv.errors import NotSerialisableError, UnknownNameError
from textenv.models import TabularLM, load
from textenv.rewards import Perplexity, bleu, get, perplexity
from textenv.testing import check_reward
from textenv.vocabulary import WordVocabulary

OPENING = ["The Rock is destined", "If you sometimes like", "", "This is a film"]
REST = ["to be the 21st", "to go to the movies to have fun.", "A funny and moving film.", ""]


def table(*, end="$", third=0.25):
    """After anything: a ½, b ¼ − (third − ¼), the end ¼."""
    vocabulary = WordVocabulary(["a", "b", "c"], end=end) if end else WordVocabulary(["a", "b"])
    probabilities = [0.5, 0.25, 0.0, third] if end else [0.5, 0.5]
    model = TabularLM(vocabulary.size, order=0, vocabulary=vocabulary)
    with torch.no_grad():
        model.logits.copy_(torch.tensor(probabilities).log().expand_as(model.logits))
    return model


def score(reward, *texts, prompts=None):
    return reward(prompts or [""] * len(texts), list(texts))


# By hand


def test_by_hand():
    # a a b $: ½ · ½ · ¼ · ¼ = 1/64 over 4 tokens: 64^¼ = √8. Nothing but $: ¼ over 1: 4.
    assert score(perplexity(table()), "a a b", "") == pytest.approx([math.sqrt(8), 4.0])
    # Without the end: 1/16 over 3 tokens; a text without tokens earns the cap.
    without = perplexity(table(), end=False, cap=99)
    assert score(without, "a a b", "") == pytest.approx([16 ** (1 / 3), 99.0])


def test_by_word_and_by_character():
    # The same 1/64 over 3 words and the end, and over the 5 characters of "a a b" and the end.
    assert score(perplexity(table(), per="word"), "a a b") == pytest.approx([64**0.25])
    assert score(perplexity(table(), per="character"), "a a b") == pytest.approx([64 ** (1 / 6)])
    assert score(perplexity(table(), per="word", end=False), " ") == [10_000.0]


def test_what_is_never_written_earns_the_cap():
    reward = perplexity(table(), cap=50.0)
    assert reward.range == (1.0, 50.0)
    # c has probability 0; b twelve times and the end: (4¹³)^(1/13) = 4 is far from it.
    assert score(reward, "a c", " ".join("b" * 12)) == pytest.approx([50.0, 4.0])
    assert score(perplexity(table(), cap=3.0), "b b") == [3.0]


# The same in every company


def test_batched_is_one_by_one_on_the_shipped_model():
    reward = perplexity()
    together = reward(OPENING, REST)
    alone = [reward([prompt], [text])[0] for prompt, text in zip(OPENING, REST)]
    assert together == pytest.approx(alone, abs=1e-5, rel=0)
    assert check_reward(reward, OPENING, REST, tolerance=1e-5).left_out == 0


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom"])
def test_batched_is_one_by_one_and_the_models_own_sum(kind):
    """Texts of many lengths, in several batches, against one pass a text."""
    model = causal(kind).eval()
    reward = perplexity(model, separator="")
    random = np.random.default_rng(0)

    def text(length):
        return " ".join(VOCABULARY.words[i] for i in random.integers(12, size=length))

    prompts = [text(random.integers(5)) for _ in range(40)]
    texts = [text(random.integers(8)) for _ in range(40)]
    together = reward(prompts, texts)
    expected = []
    for prompt, written in zip(prompts, texts):
        start = VOCABULARY.encode(prompt) or [VOCABULARY.start_token]
        ids = [*VOCABULARY.encode(written), VOCABULARY.end_token]
        with torch.no_grad():
            logits = model.model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
        log_probs = [logits[len(start) + t - 1, token].item() for t, token in enumerate(ids)]
        expected.append(math.exp(-sum(log_probs) / len(ids)))
    assert together == pytest.approx(expected, abs=1e-5, rel=0)


def test_batches_are_cut(monkeypatch):
    reward = perplexity(tabular())
    texts = ["w1 w2", "", "w3", "w1 w1 w1 w1", "w2"]
    whole = score(reward, *texts)
    monkeypatch.setattr("textenv.rewards.likelihood.TOKENS_AT_ONCE", 4)
    assert score(reward, *texts) == pytest.approx(whole, abs=1e-12)
    assert score(reward) == []


# Prompts


def test_the_prompt_is_read_and_not_judged():
    reward = perplexity()
    fits, does_not = reward(["This film is", "To go to the"], ["boring and dull."] * 2)
    assert fits < does_not
    # The blank between the two is put there, unless there is one.
    assert reward(["This film is "], ["boring."]) == reward(["This film is"], [" boring."])


def test_separator_belongs_to_models_that_read_both_in_a_row():
    class Letters(WordVocabulary):
        """Characters, of which the blank is one."""

    vocabulary = Letters(["a", " "], separator="", end="$")
    model = TabularLM(3, order=0, vocabulary=vocabulary)  # uniform: each costs ln 3
    blank, none = (perplexity(model, separator=s).likelihoods(["a"], ["a"]) for s in (" ", ""))
    assert (blank.counts.tolist(), none.counts.tolist()) == ([3], [2])
    assert blank.log_probs == pytest.approx(-3 * math.log(3))


def test_an_encoder_decoder_reads_the_source():
    reward = perplexity("translator")
    source = ["i find three cars every day ."] * 3
    right, wrong, broken = reward(source, ["我每天找到三辆车。", "他每天找到三辆车。", "我每"])
    assert 1 <= right < 1.5 < wrong < broken


# One fixed model


def test_a_model_in_memory_is_copied():
    model = table()
    reward = perplexity(model)
    before = score(reward, "a b")
    with torch.no_grad():
        model.logits.zero_()
    assert score(reward, "a b") == before
    assert score(perplexity(model), "a b") != before
    assert model.logits.requires_grad
    with pytest.raises(NotSerialisableError, match="lives only in this process"):
        reward.spec()


def test_the_json_form_and_a_pickle_load_it_again(tmp_path):
    table().save_pretrained(tmp_path / "table")
    reward = perplexity(tmp_path / "table", cap=100)
    spec = json.loads(json.dumps(reward.spec()))
    assert spec == {"name": "perplexity", "lm": str(tmp_path / "table"), "cap": 100.0}
    expected = score(reward, "a b")
    assert score(get(spec), "a b") == expected
    assert len(pickle.dumps(reward)) < 1000
    assert score(pickle.loads(pickle.dumps(reward)), "a b") == expected
    assert get("perplexity").spec() == perplexity().spec() == "perplexity"


def test_single_precision_is_near():
    exact, single = perplexity(), perplexity(dtype="float32")
    assert single(OPENING, REST) == pytest.approx(exact(OPENING, REST), rel=1e-5)


def test_no_global_generator_and_no_gradient():
    before = torch.get_rng_state()
    reward = Perplexity()
    score(reward, "a film")
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in reward._model.parameters())
    assert not reward._model.training


# Errors


def test_what_is_refused():
    for make, error, message in (
        (lambda: perplexity("revews"), UnknownNameError, "'reviews'"),
        (lambda: score(perplexity(device="gpu"), "a"), ValueError, "device"),
        (lambda: perplexity(3), ValueError, "a name, a folder or a textenv.models.LanguageModel"),
        (lambda: perplexity(per="line"), ValueError, "per must be one of token, word, character"),
        (lambda: perplexity(cap=math.inf), ValueError, "finite number above 1"),
        (lambda: score(perplexity(table(end=None)), "a"), ValueError, "write end=False"),
        (lambda: score(perplexity(TabularLM(3)), "a"), ValueError, "has no vocabulary"),
        (lambda: score(perplexity(table()), "zebra"), ValueError, "'zebra' is not in"),
    ):
        with pytest.raises(error, match=message):
            make()


# The mission's sum


def test_minus_perplexity_plus_bleu_in_an_environment():
    total = -perplexity("translator") + bleu()
    assert total.names == ("perplexity", "bleu")
    assert total.range == (-10_000.0, 0.0)
    env = gym.make("textenv/ToyTranslation-v0", reward=total)
    task, right = env.unwrapped.task, "我每天找到三辆车。"
    prompt = task.prompts.index("i find three cars every day .")
    assert task.columns["reference"][prompt] == right

    def play(text):
        env.reset(seed=0, options={"prompt": task.prompts[prompt], "columns": {"reference": right}})
        for token in [*task.vocabulary.encode(text), task.vocabulary.end_token]:
            _, reward, terminated, _, info = env.step(token)
        assert terminated
        return reward, info["reward_parts"]

    best, parts = play(right)
    assert parts == {"perplexity": pytest.approx(-1.2634, abs=1e-3), "bleu": 1.0}
    assert best == pytest.approx(sum(parts.values()))
    worse, parts = play("他找车。")
    assert parts["perplexity"] < -10
    assert 0 < parts["bleu"] < 0.5
    assert worse == pytest.approx(sum(parts.values()))
    # 1 − r is worth the same wherever it is written.
    other = (bleu() - perplexity("translator"))([task.prompts[prompt]], [right], reference=[right])
    assert other == [pytest.approx(best)]
    env.close()


def test_the_sum_in_a_vector_is_that_in_single_environments():
    reward = [{"name": "bleu"}, {"name": "perplexity", "lm": "translator", "cap": 100}]
    envs = gym.make_vec("textenv/ToyTranslation-v0", num_envs=3, reward=reward)
    envs.reset(seed=5)
    end = envs.unwrapped.task.vocabulary.end_token
    texts = np.random.default_rng(0).integers(100, 200, size=(3, 5)).tolist()
    for actions in [*zip(*texts), (end,) * 3]:
        _, rewards, terminated, _, infos = envs.step(np.array(actions))
    assert terminated.all()
    for row in range(3):
        env = gym.make("textenv/ToyTranslation-v0", reward=reward)
        env.reset(seed=5 + row)
        for token in [*texts[row], end]:
            _, one, _, _, info = env.step(token)
        assert one == pytest.approx(rewards[row], abs=1e-5)
        for name, part in info["reward_parts"].items():
            assert part == pytest.approx(infos["reward_parts"][name][row], abs=1e-5)
    envs.close()


def test_load_is_not_shared_with_the_policy():
    env = gym.make("textenv/Sentiment-v0", reward=-perplexity("reviews"))
    reward = env.unwrapped.task.reward.terms[0][1]
    score(reward, "a")
    assert reward._model is not env.unwrapped.lm
    assert reward._model.device == load("reviews").device
