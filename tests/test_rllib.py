"""RLlib's new API stack trains on our environments, and counts their steps right.

RLlib pins another Gymnasium, so these run in an environment of their own: `make rllib`.
"""

from __future__ import annotations

from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.small_tasks import ragged_task, register_tasks
from textenv import Task, exact
from textenv.errors import MissingExtraError
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary

# Ray's own, and RLlib's of its own parts.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*API stack.*:UserWarning"),
]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray[rllib]: `make rllib`")

WORDS = ["a", "b", "c", "d"]
register_tasks(
    {
        "Ragged": {"task": ragged_task(6)},
        # Every text has five tokens, for none ends it earlier.
        "FiveWords": {
            "task": Task(
                name="FiveWords",
                vocabulary=WordVocabulary(WORDS),
                max_tokens=5,
                reward=word_preference({"a": 1.0, "b": -1.0}, pays="token"),
                prompts=["a", "b c"],
            )
        },
    }
)


@pytest.fixture(scope="module")
def rllib():
    """`textenv_agents.rllib`, with Ray running for this module alone."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    from textenv_agents import rllib

    yield rllib
    ray.shutdown()


def built(config):
    config.training(train_batch_size_per_learner=512, minibatch_size=128, num_epochs=4)
    return config.debugging(seed=1).build_algo()


def exact_value(algorithm, task, observed=lambda prefixes: prefixes.tokens):
    """J of the module's policy, over all texts."""

    def policy(prefixes):
        batch = {"obs": torch.as_tensor(np.asarray(observed(prefixes)))}
        logits = algorithm.get_module().forward_inference(batch)["action_dist_inputs"]
        return logits.double().softmax(dim=1).numpy()

    return exact.value(task, policy)


@needs_ray
@pytest.mark.parametrize(
    ("name", "before", "updates"), [("GoodBad", 0.0, 10), ("ILoveYou", 1 / 4**4, 14)]
)
def test_it_learns_on_the_native_vector_environment(rllib, name, before, updates):
    task = gym.make(f"textenv/{name}-v0").unwrapped.task
    algorithm = built(rllib.ppo_config(f"textenv/{name}-v0"))
    assert exact_value(algorithm, task) == pytest.approx(before, abs=0.002)
    for _ in range(updates):
        result = algorithm.train()["env_runners"]
    assert exact_value(algorithm, task) > 0.9
    assert result["episode_return_mean"] > 0.8
    algorithm.stop()


@needs_ray
def test_it_learns_from_texts_written_in_other_processes(rllib):
    task = gym.make("textenv/ILoveYou-v0").unwrapped.task
    config = rllib.ppo_config("textenv/ILoveYou-v0")
    algorithm = built(config.env_runners(num_env_runners=2, sample_timeout_s=600))
    for _ in range(14):
        result = algorithm.train()["env_runners"]
    assert exact_value(algorithm, task) > 0.9
    assert result["episode_len_max"] <= 4
    assert algorithm.env_runner_group.num_healthy_remote_workers() == 2
    algorithm.stop()


@needs_ray
def test_the_length_that_it_reports_is_that_of_the_texts(rllib):
    """With 12 texts of 5 tokens in each row an update is over when its texts are.

    A text that goes on into the next update is reported one longer where the runner is local: the
    learner adds a step to the part of it that the runner still holds. So does any environment.
    """
    config = rllib.ppo_config("tests/FiveWords-v0", num_envs=8)
    algorithm = config.training(train_batch_size_per_learner=8 * 12 * 5).build_algo()
    for updates in (1, 2):
        result = algorithm.train()["env_runners"]
        assert result["num_env_steps_sampled_lifetime"] == updates * 480
        assert result["num_episodes_lifetime"] == updates * 96
        assert result["episode_len_mean"] == 5
        assert result["episode_len_min"] == result["episode_len_max"] == 5
    algorithm.stop()


@needs_ray
def test_its_episodes_are_our_texts(rllib):
    """Actions, observations, returns and the reported means, against the task's own arithmetic."""
    config = rllib.ppo_config("tests/Ragged-v0", num_envs=7)
    config.reporting(metrics_num_episodes_for_smoothing=10_000)
    algorithm, rules = built(config), gym.make("tests/Ragged-v0").unwrapped.task.rules
    lengths, paid = {}, {}  # by episode, whose parts come in two calls where it crosses them
    finished = []
    for _ in range(3):
        for part in algorithm.env_runner.sample(num_timesteps=200):
            actions = np.array(part.get_actions()).tolist()
            before = lengths.get(part.id_, 0)
            lengths[part.id_] = before + len(actions)
            pay = [{0: 1.0, 1: -1.0}.get(action, 0.0) for action in actions]
            assert np.array(part.get_rewards()).tolist() == pay
            paid[part.id_] = paid.get(part.id_, 0.0) + sum(pay)
            last = np.array(part.get_observations())[-1]
            written = [token for token in last[rules.prompt_length :] if token != rules.nothing]
            assert written[before:] == actions
            if part.is_terminated:
                finished.append(part.id_)
                assert actions[-1] in (3, 4) or lengths[part.id_] == 6  # "!", "$", or T
    assert len({lengths[name] for name in finished}) > 3
    reported = algorithm.env_runner.get_metrics()
    assert float(reported["episode_len_mean"]) == np.mean([lengths[name] for name in finished])
    returned = float(reported["episode_return_mean"])
    assert returned == pytest.approx(np.mean([paid[name] for name in finished]))
    algorithm.stop()


@needs_ray
def test_same_step_is_refused_because_it_would_lose_a_token_without_a_word(rllib):
    config = rllib.ppo_config("tests/FiveWords-v0", autoreset_mode="SameStep")
    with pytest.raises(ValueError, match=r"as NEXT_STEP.*SAME_STEP.*leave autoreset_mode out"):
        config.build_algo()
    # What it guards against: if RLlib learns to read the mode, this fails and the guard can go.
    algorithm = built(config.callbacks(on_environment_created=None))
    result = algorithm.train()["env_runners"]
    assert result["episode_len_min"] == 4
    algorithm.stop()


@needs_ray
@pytest.mark.parametrize("keywords", [{"copy": False}, {"scoring": "deferred"}])
def test_settings_that_it_would_misread_are_refused(rllib, keywords):
    """Its episodes would hold observations of later steps, or rewards that are NaN."""
    with pytest.raises(ValueError, match="leave both out of env_config"):
        rllib.ppo_config("tests/FiveWords-v0", **keywords).build_algo()


@needs_ray
def test_its_own_module_on_hidden_states_of_a_single_environment(rllib):
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    register_env("hidden", lambda _: gym.make("textenv/ILoveYou-v0", observation="hidden"))
    network = DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="tanh")
    config = PPOConfig().environment("hidden").env_runners(num_env_runners=0)
    config.learners(num_learners=0).rl_module(model_config=network)
    config.training(lr=1e-2, gamma=1.0, lambda_=0.95, entropy_coeff=0.01, vf_loss_coeff=0.5)
    algorithm = built(config)
    env = gym.make("textenv/ILoveYou-v0").unwrapped

    def hidden(prefixes):
        return np.asarray(env.lm.next(prefixes).hidden, dtype=np.float32)

    before = exact_value(algorithm, env.task, hidden)
    for _ in range(18):
        algorithm.train()
    assert before < 0.1
    assert exact_value(algorithm, env.task, hidden) > 0.9
    algorithm.stop()


@needs_ray
def test_masked_tokens_are_never_written(rllib):
    config = rllib.ppo_config("textenv/WordPreference-v0", mask="observation", blocklist=["good"])
    algorithm = built(config)
    algorithm.train()  # an action that is not allowed is an error in the environment
    word = gym.make("textenv/WordPreference-v0").unwrapped.task.vocabulary.words.index("good")
    written = [np.array(e.get_actions()) for e in algorithm.env_runner.sample(num_episodes=30)]
    assert word not in np.concatenate(written)
    algorithm.stop()


@needs_ray
def test_what_the_module_cannot_read(rllib):
    for keywords in ({"observation": "hidden"}, {"action": "fragments:2"}):
        with pytest.raises(ValueError, match='needs observation="tokens"'):
            built(rllib.ppo_config("textenv/GoodBad-v0", **keywords))


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray():
    with pytest.raises(MissingExtraError, match=r"textenv\[rllib\]"):
        import textenv_agents.rllib  # noqa: F401
