"""The checkers over every plug-in, Gymnasium's and SB3's too, and what ours catch."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from tests.small_tasks import small_task
from textenv import (
    Candidates,
    Fragments,
    Hidden,
    Probabilities,
    Strings,
    Text,
    TextEnv,
    TextVectorEnv,
)
from textenv.errors import InvalidActionError, TextenvError
from textenv.models import TabularLM, load
from textenv.testing import (
    CheckError,
    check_env,
    check_vector_env,
    record_playthrough,
    replay_playthrough,
)

CHINESE, WORDS, REVIEWS = "textenv/ILoveYou-v0", "textenv/WordPreference-v0", "textenv/Sentiment-v0"
PAIRS = [
    {"observation": "hidden", "action": "candidates:4"},
    {"observation": "probabilities:3", "action": "candidates:3", "mask": "observation"},
    {"observation": "text", "action": "strings", "info_text": True},
    {"observation": "text", "action": "candidates:4", "mask": "observation"},
    {"observation": "tokens", "action": "candidates:2", "mask": "info"},
    {"observation": "tokens", "action": "fragments:3", "mask": "info"},
    {"observation": "hidden", "action": "fragments:2", "mask": "observation"},
    {"observation": "probabilities:2", "action": "all_tokens", "mask": "info"},
    {"observation": "tokens", "action": "strings"},
]
pairs = pytest.mark.parametrize(
    "keywords", PAIRS, ids=lambda k: f"{k['observation']}-{k['action']}"
)


@pytest.fixture(scope="module")
def reviews():
    return load("reviews")


@pairs
@pytest.mark.parametrize("environment_id", [CHINESE, WORDS])
def test_checkers(environment_id, keywords):
    check_env(environment_id, max_tokens=4, **keywords)
    check_vector_env(environment_id, num_envs=(1, 3), steps=30, max_tokens=4, **keywords)


@pytest.mark.parametrize("keywords", PAIRS[:3], ids=str)
def test_checkers_with_a_neural_model(reviews, keywords):
    keywords = {**keywords, "lm": reviews, "max_tokens": 4}
    check_env(REVIEWS, skip_render_check=True, **keywords)
    check_vector_env(REVIEWS, num_envs=2, steps=6, tolerance=1e-5, **keywords)


@pytest.mark.parametrize(
    "keywords",
    [k for k in PAIRS if "text" not in k.values() and "strings" not in k.values()],
    ids=str,
)
def test_check_env_of_stable_baselines3(keywords):
    with gym.make(WORDS, **keywords) as env:
        sb3_check_env(env)


@pytest.mark.parametrize(
    "keywords",
    [
        {"action": "candidates:3"},
        {"action": "fragments:2"},
        {"action": "strings", "observation": "text"},
    ],
    ids=str,
)
def test_playthroughs(keywords):
    recording = record_playthrough(CHINESE, seed=1, **keywords)
    replay_playthrough(recording)
    assert recording.count("action: ") >= 1
    with pytest.raises(CheckError, match="plays differently from line"):
        replay_playthrough(recording.replace("reward: 0.0", "reward: 1.0"))


# Broken plug-ins: an object of one's own is checked as ours are.


class NotZeroAtTheEnd(Hidden):
    def observe(self, task, state, answer):
        seen = super().observe(task, state, answer)
        return np.where(seen.any(axis=1, keepdims=True), seen, np.float32(1))


class WiderHidden(Hidden):
    def observe(self, task, state, answer):
        return super().observe(task, state, answer).astype(np.float64)


class ById(Probabilities):
    def observe(self, task, state, answer):
        seen = super().observe(task, state, answer)
        order = np.argsort(seen["ids"], axis=1)
        return {key: np.take_along_axis(value, order, axis=1) for key, value in seen.items()}


class WithTheEnd(Text):
    def observe(self, task, state, answer):
        texts = super().observe(task, state, answer)
        ended = (state.tokens == task.rules.end_token).any(axis=1)
        return tuple(text + "$" * bool(end) for text, end in zip(texts, ended))


class NoEndToken(Candidates):
    def choices(self, task, answer):
        choices = super().choices(task, answer)
        other = np.where((choices.ids == 0).any(axis=1), 1, 0)[:, None]
        return choices._replace(
            ids=np.where(choices.ids == task.rules.end_token, other, choices.ids)
        )


class Unsorted(Candidates):
    def choices(self, task, answer):
        choices = super().choices(task, answer)
        return choices._replace(ids=choices.ids[:, ::-1], log_probs=choices.log_probs[:, ::-1])


class Unnormalised(Candidates):
    def choices(self, task, answer):
        choices = super().choices(task, answer)
        return choices._replace(log_probs=choices.log_probs * 2)


class WritesTheLikeliest(Candidates):
    def read(self, task, action, state, choices):
        super().read(task, action, state, choices)
        return int(choices.ids[0, 0])


class MaskOfNothing(Candidates):
    def mask(self, task, choices, batch):
        return super().mask(task, choices, batch) * 0


class DropsTheLast(Fragments):
    def read(self, task, action, state, choices):
        return super().read(task, action, state, choices)[:1]


class Clips(Fragments):
    def read(self, task, action, state, choices):
        return super().read(task, np.clip(action, 0, 4), state, choices)


class TakesAnything(Strings):
    def read(self, task, action, state, choices):
        return super().read(task, action if isinstance(action, str) else "a", state, choices)


class SwapsRows(Candidates):
    def read_batch(self, task, actions, ignored, state, choices):
        return super().read_batch(task, actions, ignored, state, choices)[::-1]


BROKEN = [
    ({"observation": NotZeroAtTheEnd()}, "the observation differs"),
    ({"observation": WiderHidden()}, "not in its space|dtype"),
    ({"observation": ById(4)}, r"the observation\['ids'\] differs"),
    ({"observation": WithTheEnd()}, "the observation is"),
    ({"action": NoEndToken(3)}, r"info\['candidates'\]"),
    ({"action": Unsorted(3)}, r"info\['candidates'\]"),
    ({"action": Unnormalised(3)}, r"info\['candidate_log_probs'\]"),
    ({"action": WritesTheLikeliest(3)}, "env.text|the observation|terminated"),
    ({"action": MaskOfNothing(3)}, r"mask of MaskOfNothing\(k=3\) forbids every action in row 0"),
    ({"action": DropsTheLast(2)}, "the observation|env.text"),
    ({"action": Clips(2)}, "must raise InvalidActionError"),
    ({"action": TakesAnything()}, "must raise InvalidActionError, raised nothing"),
]


def biased():
    """A table over the small task's 5 tokens without ties: the order is 2, 3, 4, 1, 0."""
    return TabularLM.from_probabilities([[0.05, 0.1, 0.4, 0.3, 0.15]], order=0)


@pytest.mark.parametrize(("keywords", "message"), BROKEN, ids=lambda value: str(value)[:40])
def test_check_env_catches(keywords, message):
    with pytest.raises((CheckError, TextenvError, ValueError), match=f"(?s){message}"):
        check_env(TextEnv(small_task(), lm=biased(), **keywords))


@pytest.mark.parametrize(
    ("vector", "single", "message"),
    [
        (SwapsRows(3), Candidates(3), "observation|info|terminated|reward"),
        (Candidates(3), Unsorted(3), "info of row"),
        (Fragments(2), DropsTheLast(2), "observation"),
        (Candidates(2), Candidates(3), "single_action_space"),
    ],
)
def test_check_vector_env_catches(vector, single, message):
    model = biased()
    with pytest.raises((CheckError, InvalidActionError), match=f"(?s){message}"):
        check_vector_env(
            partial(TextVectorEnv, task=small_task(), lm=model, action=vector),
            partial(TextEnv, small_task(), lm=model, action=single),
            num_envs=3,
            steps=20,
        )
