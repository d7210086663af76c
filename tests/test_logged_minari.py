"""Logged texts as Minari datasets: plain Minari reads them; for another task they are refused."""

from __future__ import annotations

import itertools
import json
import os
import sys
import types

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from textenv import TextEnv
from textenv.errors import MissingExtraError, TextenvError
from textenv.logged import load_minari, minari_saving, save_minari
from textenv_agents.record import record

LOVE = "textenv/ILoveYou-v0"
WORDS = "textenv/WordPreference-v0"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Minari's datasets are in a folder of the test's own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def texts():
    return record("start", LOVE, 30, seed=1)


def same(one, other):
    assert (one.prefixes.tokens == other.prefixes.tokens).all()
    for name in ("rewards", "terminated", "log_probs"):
        assert (getattr(one, name) == getattr(other, name)).all(), name


def test_what_is_saved_is_loaded(place, texts):
    returned = save_minari(
        texts, LOVE, "textenv/love/start-v0", algorithm_name="start", author="me"
    )
    for dataset in (
        returned,
        "textenv/love/start-v0",
        minari.load_dataset("textenv/love/start-v0"),
    ):
        same(load_minari(dataset), texts)
    assert returned.storage.metadata["algorithm_name"] == "start"
    assert returned.storage.metadata["author"] == {"me"}


def test_plain_minari_reads_it(place, texts):
    save_minari(texts, LOVE, "love-v3")
    assert set(minari.list_local_datasets()) == {"love-v3"}
    dataset = minari.load_dataset("love-v3")
    assert (len(dataset), dataset.total_steps) == (30, texts.actions)
    env = dataset.recover_environment()
    assert env.spec.id == LOVE
    for episode in dataset.iterate_episodes():
        # The environment itself, doing the same, shows and pays the same.
        seen, _ = env.reset()
        shown, done = [seen], False
        for step, action in enumerate(episode.actions):
            assert not done
            seen, reward, done, _, _ = env.step(action)
            shown.append(seen)
            assert reward == episode.rewards[step]
            assert done == episode.terminations[step]
        assert done
        assert not episode.truncations.any()
        assert (np.array(shown) == episode.observations).all()
        assert episode.observations.dtype == np.int64
    assert len({episode.id for episode in dataset.sample_episodes(7)}) == 7
    paid = dataset.filter_episodes(lambda episode: episode.rewards.sum() > 0)
    assert load_minari(paid).returns().tolist() == [1.0] * int(texts.returns().sum())


def test_a_mask_beside_the_tokens_is_stored_too(place):
    env = gym.make(WORDS, mask="observation", blocklist=["bad"])
    texts = record("uniform", WORDS, 5, blocklist=["bad"])
    save_minari(texts, env, "masked-v0")
    dataset = minari.load_dataset("masked-v0")
    bad = env.unwrapped.task.vocabulary.encode("bad")[0]
    shown = [env.reset()[0], *(env.step(action)[0] for action in dataset[0].actions)]
    masks = dataset[0].observations["action_mask"]
    assert (masks == [observation["action_mask"] for observation in shown]).all()
    assert not masks[:-1, bad].any()
    same(load_minari(dataset), texts)


def test_texts_that_were_cut_off(place, texts):
    cut = texts.prefixes.tokens.copy()
    row = int(np.flatnonzero(texts.prefixes.written > 1)[0])
    cut[row, 1:] = 4
    made = type(texts)(
        type(texts.prefixes)(cut, 0, 4, np.where(np.arange(30) == row, 1, texts.prefixes.written)),
        np.where(cut == 4, 0.0, texts.rewards),
        texts.terminated & (np.arange(30) != row),
    )
    dataset = save_minari(made, LOVE, "cut-v0")
    episode = dataset[row]
    assert (episode.terminations.tolist(), episode.truncations.tolist()) == ([False], [True])
    again = load_minari(dataset)
    assert again.log_probs is None
    assert again.terminated.tolist() == made.terminated.tolist()


def test_it_is_written_nowhere_else(tmp_path, monkeypatch, texts):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    save_minari(texts, LOVE, "mine/love-v0", folder=tmp_path / "here")
    assert sorted(path.name for path in (tmp_path / "here" / "mine").iterdir()) == [
        "love-v0", "namespace_metadata.json"
    ]  # fmt: skip
    assert not (tmp_path / "home").exists()
    assert "MINARI_DATASETS_PATH" not in os.environ
    same(load_minari("mine/love-v0", folder=tmp_path / "here"), texts)


def test_names(place, texts):
    for name in ("love", "a b-v0", "-v0"):
        with pytest.raises(ValueError, match="expected a Minari dataset's name as in"):
            save_minari(texts, LOVE, name)
    save_minari(texts, LOVE, "love-v0")
    with pytest.raises(ValueError, match="there is a dataset 'love-v0' in"):
        save_minari(texts, LOVE, "love-v0")
    with pytest.raises(TextenvError, match="there is no dataset 'other-v0'"):
        load_minari("other-v0")


def test_a_failed_save_leaves_nothing(place, texts, monkeypatch):
    storage = minari.dataset.minari_storage.MinariStorage

    def break_off(self, metadata):
        raise OSError("no space left")

    monkeypatch.setattr(storage, "update_metadata", break_off)
    with pytest.raises(OSError, match="no space left"):
        save_minari(texts, LOVE, "love-v0")
    assert list(place.iterdir()) == []


def _killed_behind_two(*arguments, episodes=minari_saving._episodes):
    yield from itertools.islice(episodes(*arguments), 2)
    os._exit(9)


def test_a_killed_save_leaves_no_dataset(place, texts, monkeypatch):
    """A child ends in the middle without cleaning up, as by kill -9."""
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr("textenv.logged.minari_saving._episodes", _killed_behind_two)
            save_minari(texts, LOVE, "killed/love-v0")
        finally:
            os._exit(1)  # the child must not go on with the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list((place / "killed").glob(".love-v0-*/data"))) == 1  # it had begun
    assert minari.list_local_datasets() == {}
    with pytest.raises(TextenvError, match="there is no dataset 'killed/love-v0'"):
        load_minari("killed/love-v0")
    same(load_minari(save_minari(texts, LOVE, "killed/love-v0")), texts)


def test_places_where_no_dataset_can_be(place, texts, tmp_path):
    save_minari(texts, LOVE, "love-v0")
    with pytest.raises(ValueError, match="would lie inside the dataset 'love-v0'"):
        save_minari(texts, LOVE, "love-v0/more/other-v0")
    with pytest.raises(ValueError, match="there are no texts to save"):
        save_minari(texts.rows([]), LOVE, "none-v0")
    (tmp_path / "file").write_text("")
    with pytest.raises(TextenvError, match="datasets cannot be written into"):
        save_minari(texts, LOVE, "love-v0", folder=tmp_path / "file")
    with pytest.raises(TextenvError, match=r"no dataset 'love-v0': '.*nowhere' is no folder"):
        load_minari("love-v0", folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_dataset_or_task(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    with pytest.raises(ValueError, match=r"expected a minari.MinariDataset or the id of one, got"):
        load_minari(dataset.storage.data_path)
    with pytest.raises(ValueError, match="expected a task, an environment or its id, got 3"):
        load_minari(dataset, 3)
    with pytest.raises(ValueError, match=r"hand in its task, env\.unwrapped\.task"):
        load_minari(dataset, TextEnv(gym.make(LOVE).unwrapped.task))
    with pytest.raises(TypeError, match=r"expected LoggedTexts, got .*load_minari"):
        save_minari(dataset, LOVE, "again-v0")
    (dataset.storage.data_path / "metadata.json").write_text("{")
    with pytest.raises(TextenvError, match="the dataset 'love-v0' cannot be read: "):
        load_minari("love-v0")


def test_rewards_are_those_that_were_recorded(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    assert (load_minari(dataset, gym.make(LOVE, reward="length")).rewards == texts.rewards).all()


def test_parts_and_sums_of_datasets_are_read(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    other = save_minari(texts.rows([3, 4]), LOVE, "more-v0")
    both = minari.combine_datasets([dataset, other], "both-v0")
    assert load_minari(both).returns().tolist() == [*texts.returns(), *texts.returns()[3:5]]
    first, rest = minari.split_dataset(dataset, [10, 20])
    found = sorted([*load_minari(first).returns(), *load_minari(rest).returns()])
    assert found == sorted(texts.returns())


def test_another_tasks_dataset(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    same(load_minari(dataset, LOVE), texts)
    same(load_minari(dataset, gym.make(LOVE).unwrapped.task), texts)
    same(load_minari(dataset, gym.make_vec(LOVE, num_envs=2)), texts)
    with pytest.raises(ValueError, match="recorded on textenv/ILoveYou-v0, not on textenv/GoodBad"):
        load_minari(dataset, "textenv/GoodBad-v0")
    with pytest.raises(ValueError, match=r"another vocabulary or other limits.*max_tok"):
        load_minari(dataset, gym.make(LOVE, max_tokens=5))
    with pytest.raises(ValueError, match=r"another vocabulary or other limits.*: vocabulary '"):
        load_minari(dataset, gym.make("textenv/GoodBad-v0").unwrapped.task)


def test_another_version_of_the_environment(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    path = dataset.storage.data_path / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["env_spec"] = metadata["env_spec"].replace("ILoveYou-v0", "ILoveYou-v9")
    path.write_text(json.dumps(metadata))
    with pytest.raises(
        ValueError, match="recorded on textenv/ILoveYou-v9, not on textenv/ILoveYou-v0"
    ):
        load_minari("love-v0", LOVE)
    with pytest.raises(TextenvError, match=r"ILoveYou-v9, which cannot be made again.*v0"):
        load_minari("love-v0")  # its entry point alone would make the version that is here


def test_another_meaning_of_the_ids(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    metadata = dataset.storage.metadata["textenv"]
    dataset.storage.update_metadata({"textenv": {**metadata, "vocabulary": "0" * 64}})
    with pytest.raises(ValueError, match=f"another vocabulary or other limits.*{'0' * 64}"):
        load_minari("love-v0")


def test_what_is_no_log_of_tokens(place, texts):
    with pytest.raises(ValueError, match="logged texts are tokens: expected observations"):
        save_minari(texts, gym.make(LOVE, observation="hidden"), "hidden-v0")
    with pytest.raises(ValueError, match="another task's"):
        save_minari(texts, "textenv/GoodBad-v0", "wrong-v0")
    with pytest.raises(ValueError, match="expected an environment of textenv"):
        save_minari(texts, "CartPole-v1", "pole-v0")
    lm = gym.make(LOVE).unwrapped.lm
    with pytest.raises(TextenvError, match="cannot be stored with the dataset"):
        save_minari(texts, gym.make(LOVE, lm=lm), "memory-v0")
    assert not place.exists() or list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["h5py", "PIL", "minari"])
def test_a_missing_package_names_the_command(monkeypatch, texts, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[data\]"'):
        save_minari(texts, LOVE, "love-v0")


@pytest.fixture
def trees(monkeypatch):
    """Minari's collector maps functions over trees by jax, which is not needed here otherwise.

    torch's function of that name does the same.
    """
    if "jax" not in sys.modules:
        from torch.utils._pytree import tree_map

        jax, tree_util = types.ModuleType("jax"), types.ModuleType("jax.tree_util")
        jax.tree_util, tree_util.tree_map = tree_util, tree_map
        monkeypatch.setitem(sys.modules, "jax", jax)
        monkeypatch.setitem(sys.modules, "jax.tree_util", tree_util)


# Minari asks for more words about a dataset than a test has, and forgets temporary folders.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.filterwarnings("ignore:`.*` is set to None:UserWarning")
def test_any_loop_records_by_minaris_own_collector(place, trees):
    env = minari.DataCollector(gym.make(WORDS))
    env.action_space.seed(0)
    acted, paid = [], []
    for seed in range(6):
        env.reset(seed=seed)
        over, total, actions = False, 0.0, []
        while not over and not (seed == 5 and len(actions) == 2):
            actions.append(int(env.action_space.sample()))
            _, reward, over, _, _ = env.step(actions[-1])
            total += float(reward)
        acted.append(actions)
        paid.append(total)
    dataset = env.create_dataset("words/random-v0")
    texts = load_minari(dataset)
    rows = texts.prefixes.tokens[:, texts.prefixes.start :]
    assert [row[:n].tolist() for row, n in zip(rows, texts.prefixes.written, strict=True)] == acted
    assert texts.returns().tolist() == pytest.approx(paid)
    assert texts.terminated.tolist() == [True] * 5 + [False]
    assert texts.log_probs is None
    with pytest.raises(ValueError, match="another vocabulary or other limits"):
        load_minari(dataset, gym.make(WORDS, max_tokens=3))
    env._tmp_dir.cleanup()


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.filterwarnings("ignore:`.*` is set to None:UserWarning")
def test_an_episode_that_began_with_a_prefix_is_refused(place, trees):
    env = minari.DataCollector(gym.make(LOVE))
    env.reset(seed=0, options={"prefix": "我爱"})
    env.step(3)
    dataset = env.create_dataset("prefix-v0")
    with pytest.raises(ValueError, match="episode 0: it begins with 2 written tokens that nobody"):
        load_minari(dataset)
    env._tmp_dir.cleanup()


def test_an_episode_whose_observations_are_not_its_actions(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")

    def change(name, place):
        with h5py.File(dataset.storage.data_path / "main_data.hdf5", "a") as file:
            file[name][place] = (file[name][place] + 1) % 4

    first = int(texts.prefixes.tokens[4, 0])
    change("episode_4/actions", 0)
    with pytest.raises(
        ValueError, match=f"episode 4, action 0: expected .* shows, {first}, got {(first + 1) % 4}$"
    ):
        load_minari("love-v0")
    change("episode_3/observations", (1, 0))
    with pytest.raises(
        ValueError, match=r"episode 3, observation \d: expected what was there before"
    ):
        load_minari("love-v0")


def test_damaged_data(place, texts):
    dataset = save_minari(texts, LOVE, "love-v0")
    path = dataset.storage.data_path / "main_data.hdf5"
    whole = path.read_bytes()
    with h5py.File(path, "a") as file:
        del file["episode_3"]
    missing = path.read_bytes()
    for damaged in (missing, whole[: len(whole) // 2], b"nothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(TextenvError, match="the dataset 'love-v0' is damaged: "):
            load_minari("love-v0")
