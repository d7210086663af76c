"""What the agent sees: each observation worked out by hand, its forms, and the space of texts."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import flatten_space
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import FlattenObservation

import textenv
from tests.small_tasks import task
from textenv import Hidden, Probabilities, Text, TextEnv, TextVectorEnv
from textenv.errors import TextenvError
from textenv.models import TabularLM
from textenv.spaces import UnicodeText
from textenv.vocabulary import ByteVocabulary, WordVocabulary

CHINESE = "textenv/ILoveYou-v0"


def table(*, hidden=None, logits=None):
    """A uniform table over the 5 tokens of the small task; its answers can be overwritten."""
    model = TabularLM(5, order=0)
    answer = model.next

    def overwritten(prefixes):
        said = answer(prefixes)
        return said._replace(
            hidden=said.hidden if hidden is None else torch.full((len(prefixes), 1), hidden),
            logits=said.logits if logits is None else torch.full((len(prefixes), 5), logits),
        )

    model.next = overwritten
    return model


class TestForms:
    @pytest.mark.parametrize(
        ("forms", "expected"),
        [
            (["hidden", {"name": "hidden"}, Hidden()], Hidden()),
            (
                ["probabilities:3", {"name": "probabilities", "k": 3}, Probabilities(3)],
                Probabilities(3),
            ),
            (["text", {"name": "text"}, Text()], Text()),
        ],
    )
    def test_three_forms_go_through_json(self, forms, expected):
        for form in forms:
            env = gym.make(CHINESE, observation=form)
            again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
            assert again.unwrapped.setup.observation == expected
            assert again.observation_space == env.observation_space

    @pytest.mark.parametrize(
        ("observation", "message"),
        [
            ("probabilities:5", r"Probabilities\(5\) needs at least 5 tokens.*has 4"),
            ("probabilities:0", "an integer ≥ 1, got 0"),
            ("probabilities:1.5", r"an integer ≥ 1, got 1\.5"),
            ({"name": "probabilities", "k": True}, "got True"),
            ("probabilities", "missing a required argument: 'k'"),
            ("hiden", "Did you mean 'hidden'"),
        ],
    )
    def test_bad_ones_are_refused_when_the_environment_is_made(self, observation, message):
        for make in (gym.make, gym.make_vec):
            with pytest.raises(ValueError, match=message):
                make(CHINESE, observation=observation)

    @pytest.mark.parametrize("observation", ["hidden", "probabilities:2"])
    def test_a_model_is_needed(self, observation):
        with pytest.raises(TextenvError, match=r'asks a language model, and small has none.*lm="'):
            TextEnv(task(), observation=observation)


class TestHidden:
    def test_it_is_the_models_last_hidden_state(self):
        """That of a table is the context, one-hot: the start is the last of the 5 rows."""
        env = gym.make(CHINESE, observation="hidden")
        assert env.observation_space == gym.spaces.Box(
            -np.finfo(np.float32).max, np.finfo(np.float32).max, (5,), np.float32
        )
        observation, _ = env.reset(seed=0)
        assert observation.tolist() == [0, 0, 0, 0, 1]
        assert observation.dtype == np.float32
        assert env.step(1)[0].tolist() == [0, 1, 0, 0, 0]  # after 爱
        observation, _, terminated, _, _ = env.step(3)
        assert terminated
        assert observation.tolist() == [0] * 5  # no model is asked at the end

    def test_rows_of_a_vector(self):
        envs = gym.make_vec(CHINESE, num_envs=2, observation="hidden")
        assert envs.reset(seed=0)[0].tolist() == [[0, 0, 0, 0, 1]] * 2
        assert envs.step([0, 3])[0].tolist() == [[1, 0, 0, 0, 0], [0] * 5]

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_what_is_not_finite_is_an_error(self, number):
        env = TextEnv(task(), lm=table(hidden=number), observation="hidden")
        with pytest.raises(TextenvError, match="hidden state holds NaN or ∞"):
            env.reset(seed=0)


class TestProbabilities:
    def test_by_hand(self):
        env = gym.make(CHINESE, observation="probabilities:2")
        observation, _ = env.reset(seed=0)
        # 我 has ½, the others a sixth each: the smaller id comes first.
        assert observation["ids"].tolist() == [0, 1]
        assert observation["probabilities"] == pytest.approx([1 / 2, 1 / 6])
        assert observation["probabilities"].dtype == np.float32
        env.step(0)
        env.step(1)
        observation = env.step(2)[0]
        # After 我爱你 only 。 can be written.
        assert observation["ids"].tolist() == [3, 4]
        assert observation["probabilities"].tolist() == [1.0, 0.0]
        observation = env.step(3)[0]
        assert observation["ids"].tolist() == [4, 4]  # 4 = V: nothing here
        assert observation["probabilities"].tolist() == [0.0, 0.0]
        assert env.observation_space.contains(observation)

    def test_libraries_can_flatten_it(self):
        env = FlattenObservation(
            gym.make(CHINESE, observation="probabilities:2", mask="observation")
        )
        observation, _ = env.reset(seed=0)
        # The mask is an entry of the same Dict: there are no Dicts inside Dicts.
        assert observation == pytest.approx([1, 1, 1, 1, 0, 1, 1 / 2, 1 / 6])
        assert flatten_space(env.unwrapped.observation_space) == env.observation_space

    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_what_is_no_distribution_is_an_error(self, number):
        env = TextEnv(task(), lm=table(logits=number), observation="probabilities:2")
        with pytest.raises(TextenvError, match="logits are no distribution"):
            env.reset(seed=0)


class TestText:
    def test_prompt_and_text_without_the_end_token(self):
        env = TextEnv(task(), observation="text")
        assert env.reset(options={"prompt": "b c"})[0] == "b c"
        assert env.step(0)[0] == "b c a"
        assert env.step(4)[0] == "b c a"

    def test_rows_of_a_vector(self):
        envs = TextVectorEnv(2, task(), observation="text", autoreset_mode="same_step")
        assert envs.reset(options={"prompt": ["a", "b"]})[0] == ("a", "b")
        observation, _, _, _, infos = envs.step([1, 4])
        assert observation[0] == "a b"
        assert infos["final_obs"].tolist() == [None, "b"]
        assert envs.observation_space.contains(observation)

    def test_a_part_of_a_character_can_be_seen(self):
        env = TextEnv(task(vocabulary=ByteVocabulary(), prompts=["é"], stop=()), observation="text")
        assert env.reset(seed=0)[0] == "é"
        observation = env.step(0xC3)[0]
        assert observation == "é\ufffd"
        assert env.observation_space.contains(observation)

    def test_no_torch_is_loaded(self):
        assert not Text.asks_model
        env = gym.make(CHINESE, observation="text", action="strings").unwrapped
        env.reset(seed=0)
        env.step("我爱")
        assert env.setup.model._model is None


class TestUnicodeText:
    def test_members(self):
        space = UnicodeText()
        for text in ("", " ", "a b", "我爱你。", "😀", "é\n"):
            assert text in space
        for other in (3, None, b"a", ["a"], np.array("a"), "\ud800"):
            assert other not in space

    @pytest.mark.parametrize("vocabulary", [None, ByteVocabulary(), task().vocabulary])
    def test_samples_are_members_and_repeat_with_the_seed(self, vocabulary):
        first, second = UnicodeText(vocabulary, seed=3), UnicodeText(vocabulary)
        second.seed(3)
        texts = [first.sample() for _ in range(200)]
        assert texts == [second.sample() for _ in range(200)]
        assert len(set(texts)) > 20
        assert all(text in first for text in texts)
        if vocabulary is not None:
            assert all(vocabulary.encode(text) for text in texts)  # none is empty

    def test_a_vocabulary_without_ordinary_tokens(self):
        vocabulary = copy.copy(task().vocabulary)
        vocabulary.suppressed_tokens = (0, 1, 2, 3)
        assert UnicodeText(vocabulary, seed=0).sample() == ""

    def test_no_mask(self):
        with pytest.raises(ValueError, match="no mask"):
            UnicodeText().sample(mask=())

    def test_copies_and_batches(self):
        space = UnicodeText(task().vocabulary, seed=0)
        twin = copy.deepcopy(space)
        assert twin.vocabulary is space.vocabulary
        assert [twin.sample() for _ in range(5)] == [space.sample() for _ in range(5)]
        assert pickle.loads(pickle.dumps(space)) == space
        assert space != UnicodeText()
        assert space != gym.spaces.Text(3)
        assert space == UnicodeText(task().vocabulary)
        assert hash(space) == hash(UnicodeText(task().vocabulary))
        assert space != UnicodeText(WordVocabulary(["a", "b", "c", "?"], end="$"))
        assert not space.is_np_flattenable
        batch = batch_space(space, 3)
        assert isinstance(batch, gym.spaces.Tuple)
        assert len(set(batch.sample())) > 1  # rows do not share a generator
        assert ("a", "b", "") in batch
        assert repr(space) == "UnicodeText()"


def test_all_are_exported():
    for name in ("Tokens", "Hidden", "Probabilities", "Text"):
        assert name in textenv.__all__
        assert getattr(textenv, name)
