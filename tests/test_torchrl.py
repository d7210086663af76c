"""TorchRL takes the environments as they are: specs, rollouts, masks, and trainings that learn."""

from __future__ import annotations

import os
import warnings

import gymnasium as gym
import pytest
import torch
from tensordict.nn import TensorDictModule

import textenv  # noqa: F401  (registers the ids)
from textenv.errors import MissingExtraError

pytest.importorskip("torchrl")
with warnings.catch_warnings():  # TorchRL is deprecated by itself when it is imported
    warnings.simplefilter("ignore", DeprecationWarning)
    from torchrl.envs import (
        ActionMask,
        Compose,
        DTypeCastTransform,
        ExplorationType,
        GymEnv,
        GymWrapper,
        TransformedEnv,
        check_env_specs,
        set_exploration_type,
    )
    from torchrl.modules import MaskedCategorical, ProbabilisticActor

    from benchmarks import libraries_torchrl

IDS = sorted(id for id, spec in gym.registry.items() if spec.namespace == "textenv")
CHINESE = "textenv/ILoveYou-v0"
WORDS = "textenv/WordPreference-v0"
PROMPTS = ["good", "bad the", "the"]
BLOCKLIST = ["我爱", "你?。"]
MODES = ["DISABLED", "SAME_STEP"]


def single(environment_id, **keywords):
    return GymWrapper(gym.make(environment_id, **keywords), categorical_action_encoding=True)


def vector(environment_id, mode, num_envs=3, **keywords):
    return libraries_torchrl.make(environment_id, num_envs, mode, **keywords)


def by_hand(env, seed, actions, twice):
    """Step a plain environment as TorchRL does; yield observation and step's result."""
    env.reset(seed=seed)  # by set_seed()
    observation, _ = env.reset()  # by rollout()
    for action, again in zip(actions.tolist(), twice):
        after = env.step(action)
        yield observation, after
        observation = env.reset()[0] if after[2] or after[3] else after[0]
        if again:
            observation = env.reset()[0]


def assert_same(rollout, env, seed, twice=None):
    """Compare a rollout, [T], with a plain environment of that seed, step by step.

    After the steps of `twice`, bool [T], the environment is reset two times.
    """
    ends = 0
    twice = [False] * len(rollout) if twice is None else twice
    steps = by_hand(env, seed, rollout["action"], twice)
    for step, (observation, after) in enumerate(steps):
        assert rollout["observation"][step].tolist() == observation.tolist()
        told = rollout["next"][step]
        assert told["observation"].tolist() == after[0].tolist()
        assert told["reward"].item() == pytest.approx(after[1], abs=1e-6)
        assert (told["terminated"].item(), told["truncated"].item()) == after[2:4]
        assert told["done"].item() == (after[2] or after[3])
        ends += after[2] or after[3]
    assert ends > 5


@pytest.mark.parametrize("keywords", [{}, {"mask": "observation"}], ids=str)
@pytest.mark.parametrize("environment_id", IDS)
def test_specs(environment_id, keywords):
    try:
        env = single(environment_id, **keywords)
    except MissingExtraError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
    check_env_specs(env, seed=0)
    task = env.unwrapped.task
    assert env.action_spec.space.n == task.vocabulary.size
    assert env.observation_spec["observation"].shape == (
        task.rules.prompt_length + task.rules.max_tokens,
    )
    assert ("action_mask" in env.observation_spec.keys()) == bool(keywords)  # noqa: SIM118


def test_gym_env_makes_them_by_id():
    """GymEnv tries frameskip=, and goes on without it where the error is Python's own."""
    env = GymEnv(CHINESE, categorical_action_encoding=True, max_tokens=6)
    check_env_specs(env, seed=0)
    assert env.observation_spec["observation"].shape == (6,)
    with pytest.raises(TypeError, match=r"no keyword of ILoveYou is called 'max_token'\. Did you"):
        GymEnv(CHINESE, max_token=6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"mask": "info"},
        {"reward": ["length", "zero"]},
        {"reward": "length", "reward_fault": "skip"},
        {"action": "fragments:2"},
    ],
    ids=str,
)
def test_specs_of_vectors(mode, keywords):
    env = vector(CHINESE, mode, **keywords)
    assert env.batch_size == (3,)
    check_env_specs(env, seed=0)


def test_numeric_infos():
    """TorchRL finds them by random actions, so that no place among the candidates may be empty."""
    env = single(WORDS, action="candidates:2").auto_register_info_dict()
    start = env.reset()
    assert start["candidates"].tolist() == [0, 16]  # of 17 alike; the end is always among them
    assert start["candidate_log_probs"].exp().tolist() == pytest.approx([1 / 17, 1 / 17])


@pytest.mark.parametrize("mode", MODES)
def test_hidden_states_and_candidates(mode):
    """At an end the hidden state is the last text's, zeros; then the next one's begins."""
    env = vector(
        "textenv/Sentiment-v0", mode, 2, observation="hidden", action="candidates:8", max_tokens=4
    )
    check_env_specs(env, seed=0)
    rollout = env.rollout(8, break_when_any_done=False)
    over = rollout["next", "terminated"].squeeze(-1)
    assert over.sum() >= 4
    assert (rollout["next", "observation"][over] == 0).all()
    assert (rollout["observation"].abs().sum(-1) > 1).all()
    if mode == "SAME_STEP":  # where TorchRL reads infos without being asked
        assert rollout["next", "candidates"].shape == (2, 8, 8)
        assert (rollout["next", "candidate_log_probs"][~over] < 0).all()


def test_next_step_is_refused_by_torchrl():
    with pytest.raises(RuntimeError, match="must be one of SAME_STEP or DISABLED"):
        vector(CHINESE, "NEXT_STEP")


def test_a_dict_in_same_step_is_beyond_torchrl():
    """TorchRL 0.14.1 cannot read a Dict's final observations; the mode that it prefers can."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        vector(CHINESE, "SAME_STEP", mask="observation").rollout(8, break_when_any_done=False)
    check_env_specs(vector(CHINESE, "DISABLED", mask="observation"))


@pytest.mark.parametrize("keywords", [{}, {"max_episode_steps": 2}], ids=str)
def test_a_rollout_is_that_of_the_plain_environment(keywords):
    keywords = {"prompts": PROMPTS, "max_tokens": 3, **keywords}
    env = single(WORDS, **keywords)
    env.set_seed(5)
    torch.manual_seed(0)
    assert_same(env.rollout(60, break_when_any_done=False), gym.make(WORDS, **keywords), 5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keywords", [{}, {"max_episode_steps": 2}], ids=str)
def test_rows_are_plain_environments(mode, keywords):
    keywords = {"prompts": PROMPTS, "max_tokens": 3, **keywords}
    env = vector(WORDS, mode, **keywords)
    env.set_seed(5)
    torch.manual_seed(0)
    rollout = env.rollout(60, break_when_any_done=False)
    # Where all rows end together, TorchRL resets them itself, although SAME_STEP has done so.
    together = rollout["next", "done"].all(0).flatten().tolist()
    assert any(together)
    for row in range(3):
        twice = together if mode == "SAME_STEP" else None
        assert_same(rollout[row], gym.make(WORDS, **keywords), 5 + row, twice)


class TestMasks:
    """ActionMask() finds `action_mask`; what the blocklist forbids would be an error in step()."""

    def env(self, num_envs):
        keywords = {"mask": "observation", "blocklist": BLOCKLIST}
        base = vector(CHINESE, "DISABLED", **keywords) if num_envs else single(CHINESE, **keywords)
        return TransformedEnv(base, ActionMask())

    def check(self, rollout):
        mask, action = rollout["action_mask"], rollout["action"]
        assert mask.gather(-1, action[..., None]).all()
        assert not mask.all()  # something was forbidden
        after = torch.stack([action[..., :-1], action[..., 1:]], -1).reshape(-1, 2).tolist()
        goes_on = ~rollout["next", "done"][..., :-1, 0].reshape(-1)
        written = [pair for pair, same_text in zip(after, goes_on.tolist()) if same_text]
        assert [0, 1] not in written  # 我爱
        assert [0, 0] in written

    @pytest.mark.parametrize("num_envs", [0, 3])
    def test_random_actions(self, num_envs):
        torch.manual_seed(0)
        self.check(self.env(num_envs).rollout(300, break_when_any_done=False))

    @pytest.mark.parametrize("num_envs", [0, 3])
    def test_masked_categorical(self, num_envs):
        """It wants bool, Gymnasium's masks are int8; TorchRL has a transform for that."""
        torch.manual_seed(0)
        base = self.env(num_envs).base_env
        as_bool = DTypeCastTransform(torch.int8, torch.bool, in_keys=["action_mask"])
        env = TransformedEnv(base, Compose(as_bool, ActionMask()))
        network = libraries_torchrl.Reader(5, 4, 4)
        actor = ProbabilisticActor(
            TensorDictModule(network, in_keys=["observation"], out_keys=["logits"]),
            in_keys={"logits": "logits", "mask": "action_mask"},
            distribution_class=MaskedCategorical,
            spec=env.action_spec,
        )
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            self.check(env.rollout(300, actor, break_when_any_done=False))


@pytest.mark.parametrize(
    ("environment_id", "mode", "steps", "keywords"),
    [
        ("textenv/GoodBad-v0", "DISABLED", 2_048, {}),
        ("textenv/GoodBad-v0", "SAME_STEP", 2_048, {"mask": "info"}),
        (CHINESE, "DISABLED", 8_192, {}),
    ],
)
def test_ppo_learns(environment_id, mode, steps, keywords):
    run = libraries_torchrl.ppo(environment_id, 0, steps=steps, mode=mode, **keywords)
    assert run.steps == steps
    assert run.before < 0.5
    assert run.after >= 0.9
    assert run.greedy == 1.0
