"""`SB3VecEnv` steps as SB3's DummyVecEnv does, and SB3's wrappers and agents run over it."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

import textenv
from tests.small_tasks import small_task
from textenv.errors import MissingExtraError, ResetNeededError
from textenv.rewards import length, word_preference
from textenv_agents.sb3 import SB3VecEnv, checks

WORDS, CHINESE, GOOD = "textenv/WordPreference-v0", "textenv/ILoveYou-v0", "textenv/GoodBad-v0"
SETTINGS = [
    (GOOD, {}),
    (CHINESE, {}),
    (CHINESE, {"max_episode_steps": 3}),
    (CHINESE, {"max_episode_steps": 2, "observation": "hidden", "action": "candidates:3"}),
    (CHINESE, {"mask": "observation", "blocklist": ["爱你"], "max_tokens": 3}),
    (WORDS, {"mask": "info", "info_text": True, "max_tokens": 4}),
    (WORDS, {"reward": length() + 2.0 * word_preference({"good": 1.0}), "max_tokens": 2}),
    (WORDS, {"action": "fragments:2", "max_tokens": 5}),
    (WORDS, {"observation": "probabilities:2", "action": "candidates:3", "max_tokens": 4}),
]


def same_step(environment_id=CHINESE, num_envs=3, **keywords):
    mode = AutoresetMode.SAME_STEP
    return gym.make_vec(environment_id, num_envs=num_envs, autoreset_mode=mode, **keywords)


def single_envs(environment_id, number, **keywords):
    return DummyVecEnv([lambda: gym.make(environment_id, **keywords) for _ in range(number)])


def allowed(masks, action_space, generator):
    """One action a row, of those that the masks allow."""
    if isinstance(action_space, gym.spaces.Discrete):
        return np.array([generator.choice(np.flatnonzero(mask)) for mask in masks])
    return np.array([[generator.integers(n) for n in action_space.nvec] for _ in masks])


def assert_same(left, right):
    if isinstance(left, dict):
        assert set(left) == set(right)
        for key in left:
            assert_same(left[key], right[key])
    else:
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(("environment_id", "keywords"), SETTINGS, ids=str)
def test_it_steps_as_sb3_steps_single_environments(environment_id, keywords):
    ours = SB3VecEnv(environment_id, 3, **keywords)
    theirs = single_envs(environment_id, 3, **keywords)
    generator, ends = np.random.default_rng(0), 0
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for seed in (5, 6):
        assert list(ours.seed(seed)) == list(theirs.seed(seed)) == [seed, seed + 1, seed + 2]
        assert_same(ours.reset(), theirs.reset())
        assert data_equivalence(ours.reset_infos, theirs.reset_infos)
        for _ in range(40):
            masks = theirs.env_method("action_masks")
            np.testing.assert_array_equal(ours.env_method("action_masks"), masks)
            actions = allowed(masks, ours.action_space, generator)
            one, other = ours.step(actions), theirs.step(actions)
            for k in range(3):
                assert_same(one[k], other[k])
            assert data_equivalence(one[3], other[3])
            assert data_equivalence(ours.reset_infos, theirs.reset_infos)
            ends += int(one[2].sum())
    assert ends > 10
    ours.close()
    theirs.close()


def test_what_is_said_at_an_end():
    # S2: four tokens at most, 。 stops; the end by the length is terminated, a TimeLimit's is not.
    envs = SB3VecEnv(CHINESE, 2, max_episode_steps=2)
    stop = envs.get_attr("task")[0].vocabulary.encode("。")[0]
    envs.reset()
    envs.step([0, 0])
    observation, rewards, dones, infos = envs.step([stop, 1])
    assert dones.tolist() == [True, True]
    assert infos[0]["terminal_observation"].tolist() == [0, stop, 4, 4]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    assert observation.tolist() == [[4] * 4] * 2
    assert rewards.dtype == np.float32


def test_seeds_and_options_are_used_once():
    envs = SB3VecEnv(textenv.TextVectorEnv(3, small_task(), autoreset_mode="same_step"))
    envs.seed(3)
    first, second = envs.reset(), envs.reset()
    envs.seed(3)
    assert (envs.reset() == first).all()
    assert (envs.reset() == second).all()  # no seed: the generators go on
    envs.set_options([{"prompt": "b c", "prefix": "a"}, {}, {"prompt": [0]}])
    assert envs.reset()[0].tolist() == [1, 2, 0, 5, 5]
    assert envs.get_attr("text") == ["a", "", ""]
    assert envs.get_attr("state")[2].tokens.tolist() == [5, 0, 5, 5, 5]
    envs.reset()
    assert envs.get_attr("text") == ["", "", ""]
    envs.set_options([{}])
    with pytest.raises(ValueError, match="a list of 3, got a list of 1"):
        envs.reset()
    envs.set_options({"promt": "a"})
    with pytest.raises(ValueError, match=r"among .* got \['promt'\]"):
        envs.reset()


def test_attributes_and_methods_by_row():
    envs = VecMonitor(SB3VecEnv(same_step(blocklist=["我爱"])))
    envs.set_options([{"prefix": "我"}, {}, {}])
    envs.reset()
    love = envs.get_attr("task")[0].vocabulary.encode("爱")[0]
    masks = envs.env_method("action_masks", indices=[0, 2])
    assert [mask[love] for mask in masks] == [False, True]
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("nothing_of_that_name")
    assert envs.get_attr("action_masks", 0)[0]().tolist() == masks[0].tolist()
    assert envs.get_attr("text", -3) == ["我"]
    assert envs.get_attr("observation_space")[0].shape == (4,)
    assert envs.get_attr("choices") == [None] * 3
    assert envs.env_is_wrapped(Monitor, indices=[0, 1]) == [False, False]
    envs.set_attr("note", 7)
    assert envs.get_attr("note", indices=[1]) == [7]
    with pytest.raises(ValueError, match=r"cannot be set for rows \[1\] alone"):
        envs.set_attr("note", 8, indices=1)
    with pytest.raises(AttributeError, match="only action_masks, render can be called row by row"):
        envs.env_method("set_state", None)


def test_wrappers_of_the_vector_environment():
    vector = gym.wrappers.vector.RecordEpisodeStatistics(same_step(GOOD, 2))
    envs = SB3VecEnv(vector)
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics
    assert envs.env_is_wrapped(wrapped) == [True, True]
    envs.reset()
    assert envs.get_attr("text") == ["", ""]
    *_, infos = envs.step([0, 1])
    assert [(info["episode"]["r"], info["episode"]["l"]) for info in infos] == [(1.0, 1), (-1.0, 1)]
    assert type(infos[0]["episode"]["r"]) is float


def test_other_vector_environments_of_gymnasium():
    def vector():
        return gym.make_vec(
            "CartPole-v1", 2, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
        )

    ours = SB3VecEnv(vector())
    theirs = single_envs("CartPole-v1", 2)
    generator = np.random.default_rng(0)
    for envs in (ours, theirs):
        envs.seed(1)
        envs.set_options({"low": -0.01, "high": 0.01})
    assert_same(ours.reset(), theirs.reset())
    for _ in range(60):
        actions = generator.integers(2, size=2)
        one, other = ours.step(actions), theirs.step(actions)
        for k in range(3):
            assert_same(one[k], other[k])
        assert data_equivalence(one[3], other[3])
    ours.set_attr("gravity", 3.0, indices=1)
    assert ours.get_attr("gravity", 1) == [3.0]
    assert ours.env_is_wrapped(gym.wrappers.TimeLimit) == [True, True]
    assert not ours.has_attr("action_masks")
    ours.set_options([{"low": -0.01}, {}])
    with pytest.raises(ValueError, match="the same options in all rows"):
        ours.reset()


def test_pictures_and_texts():
    envs = SB3VecEnv(same_step(GOOD, 2, render_mode="ansi"))
    envs.reset()
    frames = envs.env_method("render")
    assert len(frames) == 2
    assert all(isinstance(frame, str) for frame in frames)
    pytest.importorskip("PIL")
    envs = SB3VecEnv(same_step(GOOD, 2, render_mode="rgb_array"))
    envs.reset()
    assert [image.dtype for image in envs.get_images()] == [np.uint8] * 2
    assert envs.render().ndim == 3
    with pytest.warns(UserWarning, match="pictures need render_mode"):
        assert SB3VecEnv(GOOD).get_images() == [None]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_goes_on_as_the_original(copied):
    envs = SB3VecEnv(WORDS, 2, max_tokens=3)
    envs.seed(0)
    envs.reset()
    other = copied(envs)
    for actions in np.random.default_rng(0).integers(3, size=(20, 2)):
        one, two = envs.step(actions), other.step(actions)
        assert_same(one[0], two[0])
        assert data_equivalence(one[3], two[3])


def test_sb3s_wrappers(tmp_path):
    envs = VecMonitor(
        SB3VecEnv(CHINESE, 4, observation="hidden", action="candidates:3"),
        str(tmp_path / "log"),
    )
    envs = VecCheckNan(VecNormalize(envs), raise_exception=True)
    envs.seed(0)
    envs.reset()
    paid, lengths, generator = [], [], np.random.default_rng(0)
    for _ in range(50):
        actions = allowed(envs.env_method("action_masks"), envs.action_space, generator)
        observations, _, dones, infos = envs.step(actions)
        assert np.isfinite(observations).all()
        for row in np.flatnonzero(dones):
            paid.append(infos[row]["episode"]["r"])
            lengths.append(infos[row]["episode"]["l"])
            assert (np.abs(infos[row]["terminal_observation"]) <= 10).all()  # VecNormalize's clip
    assert max(lengths) <= 4
    assert set(paid) <= {0.0, 1.0}
    envs.close()
    lines = (tmp_path / "log.monitor.csv").read_text("utf-8").splitlines()
    assert CHINESE in lines[0]
    assert len(lines) == 2 + len(paid)
    stacked = VecFrameStack(SB3VecEnv(CHINESE, 2, observation="hidden"), 3)
    width = stacked.observation_space.shape[0]
    assert stacked.reset().shape == (2, width)
    assert "terminal_observation" in [stacked.step([3, 3]) for _ in range(4)][-1][3][0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: gym.make_vec(GOOD, num_envs=2), r"make_vec\('textenv/GoodBad-v0', num_envs=2, "
         r"autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP\)"),
        (lambda: gym.make_vec(GOOD, num_envs=2, autoreset_mode="disabled"), "SAME_STEP"),
        (lambda: gym.make_vec("CartPole-v1", 2, "sync"), r'vector_kwargs=\{"autoreset_mode": gym'),
        (lambda: same_step(scoring="deferred"), 'leave scoring="deferred" out'),
        (lambda: same_step(copy=False), "leave copy=False out"),
        (lambda: same_step(observation="text"), "no policy for the observation space"),
        (lambda: same_step(action="strings"), "no policy for the action space"),
        (lambda: gym.make(GOOD), "SB3 takes it as it is"),
        (lambda: "CartPole-v1", "the id of a textenv environment"),
    ],
)  # fmt: skip
def test_what_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SB3VecEnv(wrong())


def test_keywords_that_nothing_reads():
    with pytest.raises(ValueError, match=r"\['lm', 'num_envs'\] are for an id"):
        SB3VecEnv(same_step(), 3, lm="reviews")
    with pytest.raises(ValueError, match="autoreset_mode= is chosen here"):
        SB3VecEnv(GOOD, 2, autoreset_mode="next_step")
    with pytest.raises(ValueError, match="num_envs ≥ 1, got 0"):
        SB3VecEnv(GOOD, 0)


def test_the_shown_line_is_right():
    with pytest.raises(ValueError, match="Make the environment by") as caught:
        SB3VecEnv(gym.make_vec(CHINESE, num_envs=2))
    line = str(caught.value).splitlines()[1]
    assert SB3VecEnv(eval(line, {"gym": gym, "gymnasium": gym})).num_envs == 2


def test_rollouts_that_would_be_too_large(monkeypatch):
    # 5 columns of 8 bytes, and a mask of 5: int8 to be seen, float32 as MaskablePPO keeps it.
    # Three rows of 2048 steps take 0.245 MB without masks, 0.276 and 0.369 with them.
    monkeypatch.setattr(checks, "MUCH", 0.26e6)

    def adapted(mask):
        return SB3VecEnv(
            textenv.TextVectorEnv(3, small_task(), mask=mask, autoreset_mode="same_step")
        )

    assert adapted(None).num_envs == 3
    with pytest.warns(UserWarning, match=r"stores 45 bytes: .* 3 rows.*candidates:32") as caught:
        adapted("observation")
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="stores 60 bytes"):
        adapted("method")


def test_a_continuous_algorithm_is_sb3s_own_error():
    with pytest.raises(AssertionError, match="Discrete"):
        SAC("MlpPolicy", SB3VecEnv(GOOD, 2))


AGENTS = {
    "ppo": (PPO, {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "gamma": 1.0,
                  "learning_rate": 3e-3, "ent_coef": 0.05}, 10_000),
    "a2c": (A2C, {"n_steps": 16, "learning_rate": 3e-3, "ent_coef": 0.05}, 20_000),
    "dqn": (DQN, {"learning_starts": 500, "learning_rate": 2e-3, "train_freq": 1,
                  "target_update_interval": 500, "batch_size": 128, "exploration_fraction": 0.8,
                  "exploration_final_eps": 0.2}, 10_000),
}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("environment_id", [GOOD, CHINESE])
def test_stock_agents_learn(name, environment_id):
    made, settings, steps = AGENTS[name]
    agent = made("MlpPolicy", VecMonitor(SB3VecEnv(environment_id, 8)), seed=0, **settings)
    agent.learn(3_000 if environment_id == GOOD else steps)
    assert agent.ep_info_buffer[-1]["l"] <= 4
    reward, _ = evaluate_policy(agent, VecMonitor(SB3VecEnv(environment_id, 4)), 8)
    assert reward >= 0.9


def test_a_dict_of_observation_and_mask(tmp_path):
    envs = SB3VecEnv(CHINESE, 4, mask="observation")
    agent = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=32, n_epochs=1, seed=0)
    agent.learn(64)
    agent.save(tmp_path / "agent")
    again = PPO.load(tmp_path / "agent", env=envs)
    observation = envs.reset()
    assert (again.predict(observation, deterministic=True)[0]
            == agent.predict(observation, deterministic=True)[0]).all()  # fmt: skip


def test_maskable_ppo_never_writes_what_is_masked():
    contrib = pytest.importorskip("sb3_contrib")
    envs = SB3VecEnv(CHINESE, 4, mask="method", blocklist=["我爱", "你?。"])
    agent = contrib.MaskablePPO("MlpPolicy", envs, n_steps=64, batch_size=64, n_epochs=1, seed=0)
    agent.learn(512)  # an action that the blocklist forbids would be an error
    assert agent.rollout_buffer.action_masks.min() == 0


def test_without_stable_baselines3(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("textenv_agents.sb3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[agents\]"'):
        importlib.import_module("textenv_agents.sb3")


def test_a_step_before_the_first_reset():
    with pytest.raises(ResetNeededError, match="before reset"):
        SB3VecEnv(GOOD, 2).step([0, 1])
