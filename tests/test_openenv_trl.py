"""TRL's GRPOTrainer learns from an environment that is served over OpenEnv's protocol.

Skipped where TRL is missing: `pip install "textenv[bench]"`.
"""

from __future__ import annotations

import pytest

trl = pytest.importorskip("trl", exc_type=ImportError)
pytest.importorskip("openenv")

from benchmarks.libraries_trl import make_model  # noqa: E402
from benchmarks.trl_training import SHARED  # noqa: E402
from textenv.interop.openenv import ServedReward, Server  # noqa: E402
from textenv.interop.trl import prompt_dataset  # noqa: E402

WORDS = ["<end>", "a", "the", "film", "story", "good", "bad", "fine", "dull"]
STEPS = 15
# TRL's configuration uses a name that transformers has given up.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is dep:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A language model of random weights, whose tokenizer is the served vocabulary."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, WORDS, seed=0)
    return str(folder)


def task(folder, **more):
    reward = {"name": "word_preference", "preferred": ["good", "fine"], "unwanted": ["bad", "dull"]}
    prompts = ["a film", "the story"]
    return {"lm": folder, "prompts": prompts, "reward": reward, "max_tokens": 6, **more}


def test_grpo_learns_from_a_served_environment(folder, tmp_path):
    keywords = task(folder)
    with Server("textenv/Sentiment-v0", **keywords) as server:
        reward = ServedReward(server.address)
        settings = {"learning_rate": 1e-2, "max_steps": STEPS, "beta": 0.0, "seed": 0}
        settings |= {"per_device_train_batch_size": 32, "num_generations": 8}
        settings |= {"max_completion_length": 6, "logging_strategy": "steps", "logging_steps": 1}
        arguments = trl.GRPOConfig(str(tmp_path), **SHARED | settings)
        trainer = trl.GRPOTrainer(
            model=folder, reward_funcs=reward, args=arguments,
            train_dataset=prompt_dataset("textenv/Sentiment-v0", repeats=4, **keywords),
        )  # fmt: skip
        trainer.train()
        reward.close()
    logs = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logs) == STEPS
    before, after = (sum(row["reward"] for row in part) / 3 for part in (logs[:3], logs[-3:]))
    print(f"\nGRPO on a served environment: reward {before:.3f} → {after:.3f} in {STEPS} steps")
    assert after > before + 1.0


def test_served_rewards_are_those_of_the_texts(folder):
    ids = [[5, 7, 0], [6, 6, 6, 3, 3, 3]]  # good fine </end>; bad bad bad film film film
    texts = ["good fine", "bad bad bad film film film"]
    prompts = ["a film", [{"role": "user", "content": "the story"}]]
    with Server("textenv/Sentiment-v0", **task(folder)) as server:
        reward = ServedReward(server.address)
        assert reward(prompts, texts, ids, trainer_state=None) == [2.0, -3.0]
        assert reward(prompts, texts, ids, prompt_index=[1, 0]) == [2.0, -3.0]
        with pytest.raises(ValueError, match="has not ended"):
            reward(prompts[:1], texts[:1], [[5, 7]])
        with pytest.raises(ValueError, match='use sends="text"'):
            reward(prompts, texts)
        reward.close()
    with Server("textenv/Sentiment-v0", **task(folder, action="completion")) as server:
        reward = ServedReward(server.address, sends="text")
        assert reward(prompts, texts) == [2.0, -3.0]
        reward.close()


def test_columns_reach_the_served_reward():
    with Server("textenv/ReasoningGym-v0", task="gcd", size=3, action="completion") as server:
        rows = prompt_dataset("textenv/ReasoningGym-v0", task="gcd", size=3)
        reward = ServedReward(server.address, sends="text")
        columns = {name: rows[name][:] for name in ("item", "reference")}
        assert reward(rows["prompt"][:], rows["reference"][:], **columns) == [1.0, 1.0, 1.0]
        assert reward(rows["prompt"][:], ["x"] * 3, **columns) == [0.0, 0.0, 0.0]
        reward.close()


def test_it_sends_ids_or_texts():
    with pytest.raises(ValueError, match='"tokens" or "text"'):
        ServedReward("http://127.0.0.1:1", sends="words")
