"""How often the language model is asked, and about what: once a step, never after the end."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.small_tasks import task
from textenv import TextEnv, TextVectorEnv
from textenv.models import TabularLM, load

END = 4
EVERYTHING = {"observation": "hidden", "action": "candidates:5", "mask": "observation"}
OBSERVATIONS = ["tokens", "hidden", "probabilities:5"]


class Counting(TabularLM):
    """Remembers the texts that it was asked about, call by call."""

    def __init__(self):
        super().__init__(5, order=1)
        self.asked = []

    def next(self, prefixes):
        self.asked.append(
            ["".join("abc!$_"[token] for token in row[2:]).strip("_") for row in prefixes.tokens]
        )
        return super().next(prefixes)


def since(model):
    """What was asked since the last call of this."""
    asked, model.asked = model.asked, []
    return asked


def write(envs, *texts):
    """Write one token in each row: the number of the candidate that it is."""
    tokens = ["abc!$_".index(text) for text in texts]
    ids = envs.choices.ids
    return envs.step(
        [np.flatnonzero(ids[row] == t)[0] if t < 5 else 0 for row, t in enumerate(tokens)]
    )


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ["candidates:5", "all_tokens"])
def test_one_question_a_step(observation, action):
    model = Counting()
    env = TextEnv(task(), lm=model, observation=observation, action=action, mask="info")
    env.reset(seed=0)
    asks = [observation, action] != ["tokens", "all_tokens"]
    assert since(model) == [[""]] * asks
    first = "abc!$"[env.choices.ids[0, 0]] if env.choices else "a"
    env.step(0)
    env.action_masks()
    assert since(model) == [[first]] * asks
    env.step(END)  # ends the text: all 5 tokens are candidates, the last of which is $
    assert since(model) == []


def test_next_step():
    model = Counting()
    envs = TextVectorEnv(3, task(), lm=model, **EVERYTHING)
    envs.reset(seed=0)
    assert since(model) == [["", "", ""]]
    write(envs, "a", "$", "b")
    assert since(model) == [["a", "b"]]  # not the second row, which has ended
    write(envs, "a", "_", "$")
    assert since(model) == [["aa", ""]]
    write(envs, "$", "$", "_")
    assert since(model) == [[""]]
    write(envs, "_", "_", "$")
    assert since(model) == [["", ""]]


def test_same_step():
    model = Counting()
    envs = TextVectorEnv(2, task(), lm=model, autoreset_mode="same_step", **EVERYTHING)
    envs.reset(seed=0)
    since(model)
    write(envs, "a", "b")
    assert since(model) == [["a", "b"]]
    _, _, _, _, infos = write(envs, "$", "b")
    assert since(model) == [["", "bb"]]  # the final observation asks nothing
    final = infos["final_obs"][0]
    assert final["observation"].tolist() == [0.0] * 6
    assert infos["final_info"]["candidates"][0].tolist() == [5] * 5


def test_disabled():
    model = Counting()
    envs = TextVectorEnv(2, task(), lm=model, autoreset_mode="disabled", **EVERYTHING)
    envs.reset(seed=0)
    since(model)
    _, _, terminated, _, _ = write(envs, "$", "b")
    assert since(model) == [["b"]]
    envs.reset(options={"reset_mask": terminated})
    assert since(model) == [["", "b"]]
    write(envs, "$", "$")
    assert since(model) == []  # all have ended: nobody is asked


def test_truncated_rows_are_asked_about():
    """They could have gone on: their final observations are computed, in one more call."""
    model = Counting()
    envs = TextVectorEnv(
        3, task(), lm=model, autoreset_mode="same_step", max_episode_steps=2, **EVERYTHING
    )
    envs.reset(seed=0)
    write(envs, "a", "$", "b")
    since(model)
    _, _, terminated, truncated, infos = write(envs, "b", "a", "$")
    assert (terminated.tolist(), truncated.tolist()) == ([False, False, True], [True, False, True])
    assert since(model) == [["ab"], ["", "a", ""]]
    final = infos["final_obs"]
    # One-hot, the context b; and the row that has ended as well as run out of time has ended.
    assert final[0]["observation"].tolist() == [0, 1, 0, 0, 0, 0]
    assert final[2]["observation"].tolist() == [0] * 6
    assert infos["final_info"]["candidates"].tolist() == [[0, 1, 2, 3, 4], [0] * 5, [5] * 5]
    assert infos["final_info"]["_candidates"].tolist() == [True, False, True]


def test_truncated_rows_with_next_step():
    model = Counting()
    envs = TextVectorEnv(2, task(), lm=model, max_episode_steps=1, **EVERYTHING)
    envs.reset(seed=0)
    since(model)
    observation, _, _, truncated, _ = write(envs, "a", "b")
    assert truncated.all()
    assert since(model) == [["a", "b"]]
    assert observation["observation"][:, :2].tolist() == [[1, 0], [0, 1]]


def test_what_the_model_remembers_is_not_written_over():
    """The vector environment writes into its own arrays; prefixes are copies of them."""
    kept = []

    class Keeps(Counting):
        def next(self, prefixes):
            kept.append((prefixes, prefixes.tokens.copy()))
            return super().next(prefixes)

    envs = TextVectorEnv(2, task(), lm=Keeps(), **EVERYTHING)
    envs.reset(seed=0)
    for _ in range(6):
        envs.step([0, 0])
    assert len(kept) > 4
    for prefixes, tokens in kept:
        assert prefixes.tokens.tolist() == tokens.tolist()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_are_the_single_environments_of_a_neural_model(mode):
    """The same candidates; numbers within 1e-5. In one batch, and each row alone."""
    model = load("reviews")
    keywords = {"lm": model, "observation": "hidden", "action": "candidates:6", "max_tokens": 5}
    envs = gym.make_vec("textenv/Sentiment-v0", 4, autoreset_mode=mode, **keywords)
    singles = [gym.make("textenv/Sentiment-v0", **keywords) for _ in range(4)]
    seen, infos = envs.reset(seed=3)
    generator = np.random.default_rng(0)
    alone = [env.reset(seed=3 + row) for row, env in enumerate(singles)]
    for _ in range(5):
        for row, (observation, info) in enumerate(alone):
            np.testing.assert_allclose(seen[row], observation, rtol=0, atol=1e-5)
            assert infos["candidates"][row].tolist() == info["candidates"].tolist()
            log_probs = info["candidate_log_probs"]
            assert infos["candidate_log_probs"][row] == pytest.approx(log_probs, abs=1e-5)
        actions = generator.integers(5, size=4)  # the sixth is the end token
        seen, rewards, terminated, _, infos = envs.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions)]
        assert [step[1] for step in steps] == pytest.approx(rewards, abs=1e-12)
        assert [step[2] for step in steps] == terminated.tolist()
        if terminated.any():
            break
        alone = [(step[0], step[4]) for step in steps]
    assert terminated.all()  # all reached T = 5 together
