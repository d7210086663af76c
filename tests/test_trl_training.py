"""TRL's trainers learn from our rewards on our prompts, and TRL's own rewards pay here.

Skipped where TRL is missing: `pip install "textenv[bench]"`.
"""

from __future__ import annotations

import pytest

trl = pytest.importorskip("trl", exc_type=ImportError)

import transformers  # noqa: E402
from trl import rewards as theirs  # noqa: E402

from benchmarks.libraries_trl import make_model  # noqa: E402
from benchmarks.trl_training import SHARED  # noqa: E402
from textenv import Task, TextEnv  # noqa: E402
from textenv.interop.trl import as_trl_reward, from_trl_reward, prompt_dataset  # noqa: E402
from textenv.rewards import token_f1, word_preference  # noqa: E402
from textenv.tokenizer_vocabulary import TokenizerVocabulary  # noqa: E402

WORDS = ["<end>", "a", "the", "film", "story", "good", "bad", "fine", "dull"]
STEPS = 20
# TRL's configuration uses a name that transformers has given up.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is dep:FutureWarning")

CHAT = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A language model of random weights, a word a token."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, WORDS, seed=0)
    return folder


@pytest.fixture
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(folder):
    return transformers.GPT2LMHeadModel.from_pretrained(folder)


def make_task(tokenizer):
    return Task(
        name="films",
        vocabulary=TokenizerVocabulary(tokenizer),
        max_tokens=6,
        prompts=["a film", "the story", "the film"],
        columns={"reference": [["good film"], ["good story"], None]},
        reward=word_preference(pays="token") + token_f1(),
    )


@pytest.mark.parametrize("conversational", [False, True])
@pytest.mark.parametrize("method", ["GRPO", "RLOO"])
def test_trainers_learn_from_our_reward_on_our_prompts(
    method, conversational, model, tokenizer, tmp_path
):
    task = make_task(tokenizer)
    if conversational:
        tokenizer.chat_template = CHAT
    reward = as_trl_reward(task.reward, vocabulary=tokenizer)
    settings = {"learning_rate": 1e-2, "max_steps": STEPS, "beta": 0.0, "seed": 0}
    settings |= {"per_device_train_batch_size": 32, "num_generations": 8}
    settings |= {"max_completion_length": 6, "logging_strategy": "steps", "logging_steps": 1}
    arguments = getattr(trl, f"{method}Config")(str(tmp_path), **SHARED | settings)
    trainer = getattr(trl, f"{method}Trainer")(
        model=model, reward_funcs=reward, args=arguments, processing_class=tokenizer,
        train_dataset=prompt_dataset(task, conversational=conversational, repeats=4),
    )  # fmt: skip
    trainer.train()
    logs = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logs) == STEPS
    assert f"rewards/{reward.__name__}/mean" in logs[0]
    before, after = (sum(row["reward"] for row in part) / 3 for part in (logs[:3], logs[-3:]))
    print(f"\n{method}, {conversational=}: reward {before:.3f} → {after:.3f} in {STEPS} steps")
    assert after > before + 1.0
    assert "reward_parts/word_preference" in logs[0]


@pytest.mark.parametrize(
    ("reward", "text", "paid"),
    [
        (lambda: theirs.think_format_reward, "<think>\nso\n</think>\nyes", 1.0),
        (lambda: theirs.think_format_reward, "yes", 0.0),
        # 5 ids, four of the five bigrams… : (5, 5) three times and (5, 6): 1 − 2 / 4.
        (lambda: theirs.get_repetition_penalty_reward(ngram_size=2), "x", -0.5),
        # (10 − 8 − 5) / 8: five ids, from the third on each costs an eighth.
        (lambda: theirs.get_soft_overlong_punishment(10, 8), "x", -0.375),
    ],
)
def test_trls_own_rewards_pay_here(reward, text, paid):
    ids = [5, 5, 5, 5, 6]
    assert from_trl_reward(reward())([""], [text], completion_ids=[ids]) == [pytest.approx(paid)]


def test_trls_own_rewards_pay_in_environments_and_have_names(tokenizer):
    penalty = theirs.get_repetition_penalty_reward(ngram_size=1)
    task = make_task(tokenizer).with_changes(reward=from_trl_reward(penalty))
    env = TextEnv(task)
    env.reset(seed=0)
    for word in (5, 5, 5, 0):  # good good good <end>
        _, reward, terminated, _, _ = env.step(word)
    assert terminated
    assert reward == pytest.approx(-2 / 3)
    assert from_trl_reward("trl.rewards:think_format_reward").spec() == {
        "name": "textenv.interop.trl.taking:TRLReward",
        "function": "trl.rewards.format_rewards:think_format_reward",
        "conversational": True,
    }


def test_a_column_of_solutions_reaches_trls_accuracy_reward():
    pytest.importorskip("math_verify")
    reward = from_trl_reward(theirs.accuracy_reward)
    assert reward.columns == ("solution",)
    assert reward([""], [r"\boxed{2}"], solution=["2"]) == [1.0]
