"""Stock algorithms of SB3 and sb3-contrib learn the toys, with the settings of the benchmark.

What they cannot write, or cannot hold, is an error before it is tried.
"""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from sb3_contrib import QRDQN, MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import textenv
from benchmarks.sb3_agents import ALGORITHMS, TOYS, Watch, greedy_reward, make
from benchmarks.sb3_sentiment import SETTINGS, WRITES, environment, trained, writer
from benchmarks.sb3_stock import StockConfig, best
from tests.small_tasks import task
from textenv.errors import InvalidActionError, TextenvError
from textenv.models import TabularLM
from textenv.vocabulary import WordVocabulary
from textenv_agents.sb3 import SB3VecEnv, algorithms, check_algorithm, checks

GOOD, CHINESE = "textenv/GoodBad-v0", "textenv/ILoveYou-v0"
HIDDEN = {"observation": "hidden", "action": "candidates:2"}


def learns(name, environment_id, view, steps):
    one = SB3VecEnv(environment_id, 1, **view)
    agent = make(name, SB3VecEnv(environment_id, 8, **view), TOYS[name], seed=0)
    watch = Watch(one, every=500)
    agent.learn(steps, callback=watch)
    assert watch.reached is not None, watch.seen
    assert greedy_reward(agent, one) == 1.0


@pytest.mark.parametrize("view", [{}, HIDDEN], ids=["tokens", "hidden"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_good_bad(name, view):
    learns(name, GOOD, view, 5_000)


@pytest.mark.parametrize("name", ["DQN", "PPO"])
def test_i_love_you_among_two_candidates(name):
    learns(name, CHINESE, HIDDEN, 6_000)


@pytest.mark.slow
@pytest.mark.parametrize("view", [{}, HIDDEN], ids=["tokens", "hidden"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_i_love_you(name, view):
    learns(name, CHINESE, view, 50_000)


def test_the_best_text_is_among_the_candidates():
    assert best("GoodBad", 2) == best("ILoveYou", 2) == best("ILoveYou", 0) == 1.0


def test_an_agent_that_learns_nothing_has_not_reached():
    agent = make("PPO", SB3VecEnv(GOOD, 8), TOYS["PPO"] | {"learning_rate": 0.0}, seed=0)
    watch = Watch(SB3VecEnv(GOOD, 1), every=500)
    agent.learn(3_000, callback=watch)
    assert [steps for steps, _ in watch.seen] == [504, 1000, 1504, 2000, 2504, 3000]
    assert {reward for _, reward in watch.seen} == {-1.0}
    assert watch.reached is None


@pytest.mark.slow
def test_sentiment_above_what_was_not_trained():
    # A uniform choice is paid 0.225 [0.202, 0.249], the language model 0.184 [0.160, 0.207].
    assert trained("DQN", 0, 40_000, 256) > 0.25


def test_rows_and_tables_that_there_are_not():
    with pytest.raises(ValueError, match=r"no algorithm is called 'SAC'.*Known: A2C, DQN"):
        StockConfig(algorithms=("PPO", "SAC"))
    with pytest.raises(ValueError, match=r"no table is called 'toy'\. Did you mean 'toys'"):
        StockConfig(parts=("toy",))


def test_a_writer_keeps_what_the_agent_remembers():
    told = []

    class Recurrent:
        def predict(self, seen, state=None, episode_start=None, deterministic=False):
            told.append((state, episode_start.tolist(), deterministic))
            return seen, len(told)

    choose = writer(Recurrent(), greedy=True)
    for begins in ([True, True], [False, True], [False, False]):
        assert choose(np.array([3, 1]), np.array(begins)).tolist() == [3, 1]
    assert told == [(None, [True, True], True), (1, [False, True], True), (2, [False, False], True)]


def test_the_settings_for_sentiment_fit_their_algorithms():
    assert SETTINGS.keys() == WRITES.keys() == ALGORITHMS.keys()
    envs = environment(32)
    for name, settings in SETTINGS.items():
        agent = make(name, envs, settings, seed=0)
        assert agent.observation_space.shape == (128,)
        assert agent.action_space.n == 32


def test_candidates_are_repeated_as_in_single_environments():
    # After 你 comes 。 and nothing else: there actions 1 to 3 write it too.
    view = {"observation": "hidden", "action": "candidates:4"}
    ours = SB3VecEnv(CHINESE, 4, **view)
    theirs = DummyVecEnv([lambda: gym.make(CHINESE, **view)] * 4)
    generator, repeated = np.random.default_rng(0), 0
    for envs in (ours, theirs):
        envs.seed(0)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for _ in range(100):
        there = np.array([(each.ids != 4).sum() for each in ours.get_attr("choices")])
        actions = generator.integers(4, size=4)
        repeated += (actions >= there).sum()
        (seen, rewards, dones, _), others = (envs.step(actions) for envs in (ours, theirs))
        np.testing.assert_array_equal(seen, others[0])
        np.testing.assert_array_equal(rewards, others[1])
        np.testing.assert_array_equal(dones, others[2])
    assert repeated > 20
    with pytest.raises(InvalidActionError, match="0 … 3, row 3 has 4"):
        ours.step(np.array([0, 1, 2, 4]))


def large(rows=None, **keywords):
    """49,152 words, as many as SmolLM2's tokens; texts of 32."""
    vocabulary = WordVocabulary([f"w{i}" for i in range(49_152)])
    made = task(vocabulary=vocabulary, prompts=[""], max_tokens=32, stop=[])
    if rows is None:
        return textenv.TextEnv(made, **keywords)
    return SB3VecEnv(textenv.TextVectorEnv(rows, made, autoreset_mode="same_step", **keywords))


@pytest.fixture
def ten_gigabytes(monkeypatch):
    for module in (algorithms, checks):
        monkeypatch.setattr(module, "machine_memory", lambda device: 10e9)


def test_a_vocabulary_too_large(ten_gigabytes):
    # QRDQN: 49,152 · 200 outputs of 64 weights and a bias, each five times, 4 bytes: 12.8 GB.
    with pytest.raises(ValueError, match=r"12\.8 GB for the last layer.*candidates:32.* 0\.\d GB"):
        check_algorithm(QRDQN, large())
    # Masks: 2048 steps of 64 rows, 4 bytes for each of 49,152 tokens: 25.8 GB.
    with pytest.raises(ValueError, match=r"MaskablePPO would .*25\.8 GB for the masks.* has 10\.0"):
        check_algorithm(MaskablePPO, large(64))
    with pytest.warns(UserWarning, match=r"6\.4 GB for the masks") as caught:
        check_algorithm(MaskablePPO, large(64), n_steps=512)
    assert caught[0].filename == __file__
    # DQN's replay buffer keeps what it sees before and after: 20 million · 2 · 32 · 8 bytes.
    with pytest.raises(ValueError, match=r"10\.6 GB for the replay buffer"):
        check_algorithm(DQN, large(), buffer_size=20_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for algorithm in (PPO, DQN):
            assert sum(check_algorithm(algorithm, large()).values()) < 1e9
        assert sum(check_algorithm(QRDQN, SB3VecEnv(CHINESE)).values()) < 0.2e9


def test_what_no_algorithm_would_be_given():
    envs = SB3VecEnv(CHINESE, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'buffersize'"):
        check_algorithm(DQN, envs, buffersize=1_000)
    for other in (CHINESE, envs.vector_env):  # whose actions are those of all rows at once
        with pytest.raises(ValueError, match=r"a single environment or SB3VecEnv\(id, 64\), got"):
            check_algorithm(DQN, other)
    assert check_algorithm(DQN, VecMonitor(envs)) == check_algorithm(DQN, envs)


def test_steps_that_fit_nowhere(monkeypatch):
    monkeypatch.setattr(checks, "machine_memory", lambda device: 0.3e6)
    with pytest.raises(ValueError, match=r"one step of 2 rows .*candidates:32"):
        large(2, mask="method")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MaskablePPO", {"n_steps": 32}),
        ("DQN", {"buffer_size": 1_001}),
        ("QRDQN", {"buffer_size": 50, "policy_kwargs": {"n_quantiles": 7, "net_arch": [9]}}),
        ("PPO", {"n_steps": 32, "policy_kwargs": {"net_arch": {"pi": [5], "vf": [3]}}}),
        ("PPO", {"n_steps": 32, "policy_kwargs": {"net_arch": {"vf": [3]}}}),
        ("A2C", {"policy_kwargs": {"net_arch": []}}),
        ("TRPO", {"n_steps": 64}),
        ("RecurrentPPO", {"n_steps": 32}),
        (
            "RecurrentPPO",
            {
                "n_steps": 8,
                "policy_kwargs": {"lstm_hidden_size": 7, "n_lstm_layers": 2, "net_arch": []},
            },
        ),
    ],
)
def test_the_memory_is_that_of_the_real_thing(name, settings):
    envs = SB3VecEnv(CHINESE, 2)
    needed = check_algorithm(ALGORITHMS[name], envs, **settings)
    agent = make(name, envs, settings, seed=0)
    if name == "MaskablePPO":
        assert needed["masks"] == agent.rollout_buffer.action_masks.nbytes
    if name == "RecurrentPPO":
        kept = agent.rollout_buffer
        arrays = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
        assert needed["memories"] == sum(getattr(kept, each).nbytes for each in arrays)
    if name not in ("DQN", "QRDQN"):
        kept, last = agent.rollout_buffer, agent.policy.action_net
        arrays = ("observations", "actions", "rewards", "returns", "episode_starts", "values",
                  "log_probs", "advantages")  # fmt: skip
        assert needed["steps"] == sum(getattr(kept, each).nbytes for each in arrays)
    else:
        kept = agent.replay_buffer
        arrays = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        assert needed["replay buffer"] == sum(getattr(kept, each).nbytes for each in arrays)
        last = (agent.policy.q_net.q_net if name == "DQN" else agent.quantile_net.quantile_net)[-1]
    assert needed["last layer"] == 5 * sum(4 * each.numel() for each in last.parameters())


def test_several_numbers_where_one_is_chosen():
    envs = SB3VecEnv(CHINESE, 2, action="fragments:2")
    for algorithm in (DQN, QRDQN):
        with pytest.raises(ValueError, match=r"one number a step.*MultiDiscrete.*candidates:32"):
            check_algorithm(algorithm, envs)
        with pytest.raises(AssertionError, match=r"only supports .*Discrete.* but MultiDiscrete"):
            algorithm("MlpPolicy", envs)
    assert check_algorithm(PPO, envs)
    with pytest.raises(ValueError, match="no observation is called 'multidiscrete'"):
        SB3VecEnv(CHINESE, observation="multidiscrete")


def test_continuous_algorithms():
    envs = SB3VecEnv(GOOD, 2)
    for algorithm in (SAC, TD3):
        with pytest.raises(ValueError, match=r"chooses real numbers.*Discrete\(2\).*Take PPO"):
            check_algorithm(algorithm, envs)
        with pytest.raises(AssertionError, match=r"only supports .*Box.* but Discrete\(2\)"):
            algorithm("MlpPolicy", envs)


def shut_after_a():
    """A task where after "a" the blocklist leaves the end token, and nothing may write that."""
    made = task(prompts=["c"])
    made.vocabulary.suppressed_tokens = (3, 4)
    return made, {"blocklist": ["aa", "ab", "ac"]}


def test_masks_that_forbid_everything():
    made, listed = shut_after_a()
    single = textenv.TextEnv(made, **listed)
    single.reset()
    assert single.action_masks().tolist() == [True, True, True, False, False]
    single.step(0)
    with pytest.raises(TextenvError, match=r"row 0 .* every token after the text 'a' and .* 'c'"):
        single.action_masks()
    envs = VecMonitor(
        SB3VecEnv(textenv.TextVectorEnv(2, made, autoreset_mode="same_step", **listed))
    )
    envs.reset()
    envs.step(np.array([1, 0]))
    with pytest.raises(TextenvError, match=r"in row 1 .* every token after the text 'a'"):
        get_action_masks(envs)
    envs.reset()
    agent = MaskablePPO("MlpPolicy", envs, n_steps=64, batch_size=64, seed=0)
    with pytest.raises(TextenvError, match="forbids every token"):
        agent.learn(1_000)
    with pytest.raises(TextenvError, match="forbids every token"):  # where it is shown, too
        textenv.TextEnv(made, mask="observation", **listed).reset(options={"prefix": "a"})
    made.vocabulary.suppressed_tokens = (0, 1, 2, 3, 4)
    with pytest.raises(TextenvError, match=r"after whatever text.*suppressed_tokens"):
        textenv.TextEnv(made).action_masks()


class Shut(gym.Wrapper):
    """Somebody's own masks."""

    def action_masks(self):
        return np.zeros(4, dtype=bool)


def test_masks_of_other_environments_that_forbid_everything():
    vector = gym.vector.SyncVectorEnv(
        [lambda: gym.make(CHINESE), lambda: Shut(gym.make(CHINESE))],
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    envs = SB3VecEnv(vector)
    envs.reset()
    envs.step(np.array([0, 1]))
    assert envs.env_method("action_masks", indices=0)[0].all()
    with pytest.raises(
        TextenvError, match="mask of row 1 forbids every action after the text '爱'"
    ):
        envs.env_method("action_masks")
    both = np.array([False, True, True, False, False, False])
    assert checks.empty_mask([~both, both], gym.spaces.MultiDiscrete([3, 3])) == 1
    assert checks.empty_mask([~both, ~both], gym.spaces.MultiDiscrete([3, 3])) is None


def test_candidates_that_are_all_forbidden_are_an_error_that_names_the_text():
    table = np.tile([0.0, 1.0, 0.0, 0.0, 0.0], (6, 1))  # "b" and nothing else
    lm = TabularLM.from_probabilities(table, order=1)
    made = {"lm": lm, "blocklist": ["bb"], "action": "candidates:2"}
    envs = SB3VecEnv(
        textenv.TextVectorEnv(1, task(prompts=["c"]), autoreset_mode="same_step", **made)
    )
    envs.reset()
    with pytest.raises(TextenvError, match=r"nothing is left .* after the text 'b' and .* 'c'"):
        envs.step(np.array([0]))


def test_a_stock_agent_of_single_environments():
    # Without a wrapper, and without a mask, where fewer than four candidates are left, too.
    for name, view in ((GOOD, {}), (CHINESE, {"observation": "hidden", "action": "candidates:4"})):
        agent = PPO("MlpPolicy", gym.make(name, **view), n_steps=64, batch_size=64, seed=0)
        assert isinstance(agent.learn(128).env, DummyVecEnv)
