"""Gymnasium's own wrappers take our environments as they are, single ones and vectors.

What `check_env` and `check_vector_env` prove of every id is not repeated here.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector

import textenv  # noqa: F401  (registers the ids)

CHINESE = "textenv/ILoveYou-v0"  # V = 4, T = 4; 。 (3) ends a text
WORDS = "textenv/WordPreference-v0"  # V = 17; pays each token
PROMPTED = {"prompts": ["good", "bad the", "the"], "max_tokens": 3}
MODES = list(AutoresetMode)
END = 16  # the end token of WORDS

# RLlib pins 1.2, whose vector wrappers know SAME_STEP less well.
OLD = gym.__version__.startswith(("1.1.", "1.2."))


def random_steps(env, episodes, seed=0):
    """Write episodes of random words; yield each episode's rewards and its last step."""
    generator = np.random.default_rng(seed)
    for episode in range(episodes):
        env.reset(seed=seed if episode == 0 else None)
        rewards, over = [], False
        while not over:
            step = env.step(generator.integers(env.action_space.n))
            rewards.append(step[1])
            over = step[2] or step[3]
        yield rewards, step


class TestSingle:
    def test_a_time_limit_truncates_and_the_tasks_own_limit_does_not(self):
        env = wrappers.TimeLimit(gym.make(CHINESE), 3)
        env.reset(seed=0)
        ends = [env.step(0)[1:4] for _ in range(3)]
        assert ends == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]
        assert env.unwrapped.text == "我我我"  # it could go on: nothing is paid yet
        env = wrappers.TimeLimit(gym.make(CHINESE), 5)
        env.reset(seed=0)
        assert [env.step(0)[2:4] for _ in range(4)][-1] == (True, False)

    def test_episode_statistics(self):
        env = wrappers.RecordEpisodeStatistics(gym.make(WORDS, **PROMPTED))
        returns, lengths = [], []
        for rewards, step in random_steps(env, 30):
            returns.append(sum(rewards))
            lengths.append(len(rewards))
            assert (step[4]["episode"]["r"], step[4]["episode"]["l"]) == (returns[-1], lengths[-1])
        assert list(env.return_queue) == returns
        assert list(env.length_queue) == lengths
        assert len(set(returns)) > 3
        assert set(lengths) >= {2, 3}

    def test_the_passive_checker_has_nothing_to_say(self):
        """It is on by default; every warning is an error here."""
        for keywords in ({}, {"mask": "observation"}, {"observation": "text"}, {"info_text": True}):
            env = gym.make(WORDS, **PROMPTED, **keywords)
            assert "<PassiveEnvChecker<" in str(env)
            list(random_steps(env, 5))

    def test_rewards(self):
        plain = [rewards for rewards, _ in random_steps(gym.make(WORDS, **PROMPTED), 20)]
        env = wrappers.TransformReward(gym.make(WORDS, **PROMPTED), lambda reward: 2 * reward + 1)
        twice = [rewards for rewards, _ in random_steps(env, 20)]
        assert twice == [[2 * reward + 1 for reward in rewards] for rewards in plain]
        env = wrappers.ClipReward(gym.make(WORDS, **PROMPTED), 0, 0.5)
        clipped = [rewards for rewards, _ in random_steps(env, 20)]
        assert clipped == [[min(max(reward, 0), 0.5) for reward in rewards] for rewards in plain]
        env = wrappers.NormalizeReward(gym.make(WORDS, **PROMPTED), gamma=1.0)
        scaled = np.concatenate([rewards for rewards, _ in random_steps(env, 400)])
        whole = np.concatenate([rewards for rewards, _ in random_steps(env.env, 400)])
        assert (np.sign(scaled) == np.sign(whole)).all()
        ratio = scaled[whole != 0][-20:] / whole[whole != 0][-20:]
        assert np.ptp(ratio) < 0.02  # it has settled on one divisor

    def test_flat_observations(self):
        env = gym.make(CHINESE, mask="observation", blocklist=["我我"])
        flat = wrappers.FlattenObservation(env)
        assert flat.observation_space.shape == (8,)
        assert flat.reset(seed=0)[0].tolist() == [1, 1, 1, 1, 4, 4, 4, 4]
        observation = flat.step(0)[0]
        assert observation.tolist() == [0, 1, 1, 1, 0, 4, 4, 4]  # 我 may not follow 我
        parts = spaces.unflatten(env.observation_space, observation)
        assert parts["observation"].tolist() == [0, 4, 4, 4]
        env = wrappers.FlattenObservation(gym.make(CHINESE, observation="probabilities:2"))
        # 我 has ½, and 爱 comes first of the three that have a sixth each.
        assert env.reset(seed=0)[0].tolist() == pytest.approx([0, 1, 1 / 2, 1 / 6])
        with pytest.raises(NotImplementedError, match="Unknown space: `UnicodeText"):
            wrappers.FlattenObservation(gym.make(CHINESE, observation="text"))

    def test_observations_with_more_in_them(self):
        env = wrappers.TimeAwareObservation(gym.make(CHINESE, max_episode_steps=3))
        assert env.reset(seed=0)[0].tolist() == [4, 4, 4, 4, 0]
        assert env.step(1)[0].tolist() == [1, 4, 4, 4, 1]
        env = wrappers.FrameStackObservation(gym.make(CHINESE, mask="observation"), 2)
        env.reset(seed=0)
        assert env.step(2)[0]["observation"].tolist() == [[4, 4, 4, 4], [2, 4, 4, 4]]
        env = wrappers.TransformObservation(gym.make(CHINESE), lambda tokens: tokens[:2], None)
        assert env.reset(seed=0)[0].tolist() == [4, 4]

    def test_observations_as_fractions(self):
        """RescaleObservation keeps the type, so that tokens must be made floats first."""
        floats = wrappers.DtypeObservation(gym.make(CHINESE), np.float32)
        env = wrappers.RescaleObservation(floats, np.float32(0.0), np.float32(1.0))
        env.reset(seed=0)
        observation = env.step(2)[0]
        assert observation.tolist() == [0.5, 1.0, 1.0, 1.0]
        assert env.observation_space.contains(observation)

    def test_films(self, tmp_path):
        pytest.importorskip("moviepy")
        env = gym.make(CHINESE, render_mode="rgb_array")
        env = wrappers.RecordVideo(
            env, str(tmp_path / "films"), episode_trigger=lambda episode: True
        )
        env.reset(seed=0)
        assert len(env.recorded_frames) == 1
        for action in (0, 1):
            env.step(action)
        assert len(env.recorded_frames) == 3
        assert not (env.recorded_frames[0] == env.recorded_frames[2]).all()
        env.step(3)
        env.close()
        assert [path.name for path in tmp_path.glob("films/*.mp4")] == ["rl-video-episode-0.mp4"]


class TestVector:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("limit", [{}, {"max_episode_steps": 2}], ids=str)
    def test_episode_statistics(self, mode, limit):
        """Row by row, returns and lengths are those of a single environment with a counter."""
        if OLD and mode == AutoresetMode.SAME_STEP:
            pytest.skip("this Gymnasium's own statistics lose the first step after an end")
        keywords = {**PROMPTED, **limit}
        envs = gym.make_vec(WORDS, 3, autoreset_mode=mode, **keywords)
        envs = vector.RecordEpisodeStatistics(envs, buffer_length=1000)
        singles = [
            wrappers.RecordEpisodeStatistics(gym.make(WORDS, **keywords), buffer_length=1000)
            for _ in range(3)
        ]
        envs.reset(seed=3)
        for row, env in enumerate(singles):
            env.reset(seed=3 + row)
        generator = np.random.default_rng(0)
        over = np.zeros(3, dtype=bool)
        for _ in range(60):
            actions = generator.integers(17, size=3)
            if mode == AutoresetMode.DISABLED and over.any():
                envs.reset(options={"reset_mask": over.copy()})
            resetting = over if mode == AutoresetMode.NEXT_STEP else np.zeros(3, dtype=bool)
            _, _, terminated, truncated, infos = envs.step(actions)
            over = terminated | truncated
            for row in np.flatnonzero(~resetting):
                info = singles[row].step(actions[row])[4]
                assert ("episode" in info) == over[row]
                if over[row]:
                    assert infos["_episode"][row]
                    assert infos["episode"]["r"][row] == info["episode"]["r"]
                    assert infos["episode"]["l"][row] == info["episode"]["l"]
                    singles[row].reset()
        assert envs.episode_count == sum(env.episode_count for env in singles) > 40

    def test_infos_as_lists(self):
        envs = gym.make_vec(WORDS, 2, autoreset_mode="SAME_STEP", mask="info", **PROMPTED)
        envs = vector.DictInfoToList(vector.RecordEpisodeStatistics(envs))
        _, infos = envs.reset(seed=0)
        assert [info["action_mask"].tolist() for info in infos] == [[1] * 17] * 2
        infos = envs.step(np.array([END, 0]))[4]
        assert infos[0]["episode"]["l"] == 1
        assert "episode" not in infos[1]
        assert infos[0]["final_obs"][-3:].tolist() == [16, 17, 17]
        assert infos[0]["final_info"]["action_mask"].tolist() == [1] * 17

    @pytest.mark.parametrize("mode", MODES)
    def test_rewards(self, mode):
        def made():
            return gym.make_vec(WORDS, 2, autoreset_mode=mode, **PROMPTED)

        good, bad = 0, 4
        for wrapped, rewards in (
            (vector.ClipReward(made(), -0.5, 0.25), [0.25, -0.5]),
            (vector.TransformReward(made(), lambda reward: 3 * reward), [3.0, -3.0]),
        ):
            wrapped.reset(seed=0)
            assert wrapped.step(np.array([good, bad]))[1].tolist() == rewards

    def test_flat_observations(self):
        envs = vector.FlattenObservation(gym.make_vec(CHINESE, 2, mask="observation"))
        envs.reset(seed=0)
        assert envs.step(np.array([2, 1]))[0].tolist() == [
            [1, 1, 1, 1, 2, 4, 4, 4],
            [1, 1, 1, 1, 1, 4, 4, 4],
        ]
        error = AssertionError if OLD else ValueError  # the old one says nothing
        with pytest.raises(error, match=r"^$|to be NEXT_STEP or DISABLED, got Autoreset"):
            vector.FlattenObservation(gym.make_vec(CHINESE, 2, autoreset_mode="SAME_STEP"))

    def test_films(self, tmp_path):
        pytest.importorskip("moviepy")
        envs = gym.make_vec(CHINESE, 2, render_mode="rgb_array")
        single = gym.make(CHINESE, render_mode="rgb_array")
        single.reset(seed=0)
        envs = vector.RecordVideo(
            envs, str(tmp_path / "films"), episode_trigger=lambda episode: True
        )
        envs.reset(seed=0)
        envs.step(np.array([0, 1]))
        height, width, _ = single.render().shape
        assert envs.recorded_frames[-1].size >= 2 * height * width * 3
        envs.close()
        assert list(tmp_path.glob("films/*.mp4"))

    def test_torch_tensors(self):
        pytest.importorskip("array_api_compat", reason='pip install "gymnasium[array-api]"')
        envs = vector.NumpyToTorch(gym.make_vec(CHINESE, 2, mask="info"))
        observation, infos = envs.reset(seed=0)
        assert observation.tolist() == [[4] * 4] * 2
        assert infos["action_mask"].tolist() == [[1] * 4] * 2
        assert envs.step(observation[:, 0] * 0)[0].tolist() == [[0, 4, 4, 4]] * 2
