"""Implicit Q-learning on tables against exact values, and its policy as a language model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small_tasks import random_prefixes
from tests.test_offline_losses import slow_expectile
from tests.test_q_learning import random_task
from tests.tiny_models import causal, lstm
from textenv import TextEnv, exact
from textenv.logged import LoggedTexts
from textenv.mdp import Rules
from textenv.models import Prefixes, SteeredLM, TabularLM
from textenv.models.steered import ActionValues
from textenv.tasks import builder
from textenv.vocabulary import WordVocabulary
from textenv_agents.offline import ImplicitQConfig, ImplicitQLearning
from textenv_agents.offline import states as states_module
from textenv_agents.offline.states import Reader
from textenv_agents.q_learning import Tabular

TABLE = {"trace": 0.0, "hidden_units": None, "heads": 1, "batch_texts": 10_000,
         "learning_rate": 0.03, "target_rate": 0.05, "max_gradient_norm": None}  # fmt: skip
TASKS = {
    "GoodBad": builder("GoodBad"),
    "ILoveYou": builder("ILoveYou"),
    "random": lambda: random_task(0),
}


class Logged:
    """Every text of a task, each as often as `weights` says, and what it says of each prefix."""

    def __init__(self, name, weights=lambda number: np.ones(number, dtype=int)):
        self.task = TASKS[name]()
        size = self.task.rules.vocabulary_size
        found = exact.enumerate_texts(self.task, TabularLM(size, order=0))
        often = np.repeat(np.arange(len(found.rewards)), weights(len(found.rewards)))
        prefixes = Prefixes.of(self.task.rules, found.state).rows(often)
        rewards = found.rewards[often]
        self.texts = LoggedTexts(prefixes, rewards, np.ones(len(often), bool)).check(self.task)
        rules = self.task.rules
        self.lm = TabularLM(size, order=rules.prompt_length + rules.max_tokens - 1)
        self.moves = self.texts.transitions()
        start, states = rules.prompt_length, self.moves.states
        written = states.written
        keys = [tuple(row[start : start + n].tolist()) for row, n in zip(states.tokens, written)]
        prompts = found.state.prompt_index[often][self.moves.texts].tolist()
        several = len(self.task.prompts) > 1
        self.keys = list(zip(prompts, keys)) if several else keys
        self.counts = {row.tobytes(): np.zeros(size) for row in states.tokens}
        for row, action in zip(states.tokens, self.moves.actions):
            self.counts[row.tobytes()][action] += 1

    def behaviour(self, prefixes):
        """How often each token was written after each prefix."""
        rows = np.stack([self.counts[row.tobytes()] for row in prefixes.tokens])
        return rows / rows.sum(axis=1, keepdims=True)

    def error(self, learner, values):
        """Max |Q̂ − Q| and max |V̂ − V| over what was logged."""
        learned, actions = learner.values(self.moves.states), self.moves.actions
        q = [values.Q[key][action] for key, action in zip(self.keys, actions)]
        v = [values.V[key] for key in self.keys]
        ours = learned.q[torch.arange(len(q)), torch.as_tensor(actions)]
        return float((ours - torch.tensor(q)).abs().max()), float(
            (learned.v - torch.tensor(v)).abs().max()
        )

    def slow_expectiles(self, tau):
        """V and Q by going backwards over everything logged: the slow and obvious way."""
        q, v = {}, {}
        longest = max(self.moves.states.written)
        for depth in range(longest, -1, -1):
            for index in np.flatnonzero(self.moves.states.written == depth):
                key, action = self.keys[index], int(self.moves.actions[index])
                several = isinstance(key[1], tuple) if len(key) == 2 else False
                after = (key[0], (*key[1], action)) if several else (*key, action)
                worth = 0.0 if self.moves.terminated[index] else v[after]
                q.setdefault(key, {}).setdefault(action, []).append(
                    float(self.moves.rewards[index]) + worth
                )
            for key in q:
                if key not in v:
                    v[key] = slow_expectile([x for one in q[key].values() for x in one], tau)
        return exact.Values(v, {k: {a: x[0] for a, x in row.items()} for k, row in q.items()})


def generous(number):
    """Texts that are there one to four times."""
    return np.random.default_rng(0).integers(1, 5, size=number)


@pytest.mark.parametrize(("name", "trace"), [*((name, 0.0) for name in TASKS), ("random", 0.8),
                                             ("ILoveYou", 1.0)])  # fmt: skip
def test_half_evaluates_the_policy_that_wrote_the_texts(name, trace):
    logged = Logged(name, generous)
    settings = TABLE | {"expectile": 0.5, "trace": trace}
    learner = ImplicitQLearning(logged.lm, logged.texts, **settings).learn(300)
    truth = exact.values(logged.task, logged.behaviour)
    assert max(logged.error(learner, truth)) < 1e-4


@pytest.mark.parametrize("name", TASKS)
def test_expectiles_come_near_the_best_values(name):
    logged = Logged(name)
    optimum, errors = exact.optimum(logged.task), []
    for tau in (0.5, 0.9, 0.995):
        learner = ImplicitQLearning(logged.lm, logged.texts, expectile=tau, **TABLE).learn(300)
        assert max(logged.error(learner, logged.slow_expectiles(tau))) < 0.003
        errors.append(logged.error(learner, optimum))
    assert errors[0][1] > errors[1][1] > errors[2][1]  # V
    assert errors[2][0] < 0.05
    worth = [exact.value(logged.task, learner.policy(beta)) for beta in (0, 1, 4, 16, 300)]
    assert worth == sorted(worth)
    starts = [v for key, v in optimum.V.items() if key == () or key[-1] == ()]
    assert worth[-1] == pytest.approx(np.mean(starts), abs=1e-3)


def test_the_best_logged_values_are_those_of_q_learning():
    """On texts that hold everything both come to Q*: the log says as much as the environment."""
    logged = Logged("random")
    table = Tabular(TextEnv(logged.task), step_size=1.0, epsilon=1.0, seed=0).learn(3000).table
    learner = ImplicitQLearning(logged.lm, logged.texts, expectile=0.995, **TABLE).learn(300)
    learned = learner.values(logged.moves.states).q
    for row, state, action in zip(learned, logged.moves.states.tokens, logged.moves.actions):
        theirs = table.values[table.row(state)][action]
        assert float(row[action]) == pytest.approx(theirs, abs=0.05)


def test_a_text_that_was_cut_off_goes_on_being_worth_what_follows():
    logged = Logged("ILoveYou")
    whole = logged.texts
    prefixes, written = whole.prefixes, np.maximum(whole.prefixes.written - 1, 1)
    cut = whole.prefixes.written > 1
    tokens = np.where(np.arange(prefixes.tokens.shape[1]) < written[:, None], prefixes.tokens, 4)
    tokens[~cut] = prefixes.tokens[~cut]
    shorter = LoggedTexts(
        Prefixes(
            np.concatenate([prefixes.tokens, tokens[cut]]),
            0,
            4,
            np.concatenate([prefixes.written, written[cut]]),
        ),
        np.concatenate([whole.rewards, np.zeros((cut.sum(), 4))]),
        np.concatenate([whole.terminated, np.zeros(cut.sum(), bool)]),
    ).check(logged.task)
    learner = ImplicitQLearning(logged.lm, shorter, expectile=0.99, **TABLE).learn(300)
    # Taken as ends, cut texts would be worth 0 where the best is 1.
    assert logged.error(learner, exact.optimum(logged.task))[0] < 0.1


def test_holding_down_what_nobody_wrote():
    """With the cross entropy, tokens that were never logged are worth less than those that were."""
    made = TASKS["ILoveYou"]()
    tokens = np.array([[0, 1, 2, 3], [0, 1, 3, 4]])
    texts = LoggedTexts(
        Prefixes(tokens, 0, 4, np.array([4, 3])), np.array([[0, 0, 0, 1.0], [0, 0, 0, 0]]),
        np.ones(2, bool),
    ).check(made)  # fmt: skip
    lm = TabularLM(4, order=3)
    learner = ImplicitQLearning(lm, texts, **TABLE | {"conservative_weight": 0.1}).learn(300)
    q = learner.values(Prefixes(np.full((1, 4), 4), 0, 4, np.zeros(1, int))).q[0]
    assert q[0] > q[1:].max() + 0.5


RULES = Rules(vocabulary_size=13, prompt_length=3, max_tokens=5)


def some_texts(seed=0, rows=20):
    prefixes = random_prefixes(RULES, seed, rows, shortest=1)
    prefixes = prefixes.rows(prefixes.written > 0)
    rewards = np.random.default_rng(seed).normal(size=(len(prefixes), 5))
    rewards[np.arange(5) >= prefixes.written[:, None]] = 0.0
    return LoggedTexts(prefixes, rewards, np.arange(len(prefixes)) % 3 > 0)


def learned(lm, **settings):
    usual = {"batch_texts": 6, "hidden_units": 7, "conservative_weight": 0.1}
    return ImplicitQLearning(lm, some_texts(), **usual | settings).learn(5)


def test_twin_heads_count_the_lower_one():
    lm = lstm()
    learner = learned(lm, heads=3)
    prefixes = some_texts(1).prefixes
    heads = learner.target_q(lm.next(prefixes).hidden)
    assert heads.shape == (3, len(prefixes), 13)
    assert not torch.equal(heads[0], heads[1])
    torch.testing.assert_close(learner.values(prefixes).q, heads.min(dim=0).values)
    hidden, actions = torch.randn(4, 8, dtype=torch.float64), torch.tensor([0, 12, 5, 5])
    whole = learner.q(hidden)[:, torch.arange(4), actions]
    torch.testing.assert_close(learner.q.at(hidden, actions), whole)


def test_the_language_model_that_was_handed_in_stays_as_it_is():
    lm = lstm()
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    frozen, tuned = learned(lm), learned(lm, lm_learning_rate=1e-2, cloning_weight=1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())
    assert frozen.lm is lm
    assert not torch.equal(tuned.lm.head.weight, lm.head.weight)
    policy, prefixes = tuned.policy(0.0), some_texts(1).prefixes
    said = policy.next(prefixes).logits
    tuned.learn(1)
    assert torch.equal(policy.next(prefixes).logits, said)  # a policy is what it was


def test_cloning_makes_the_logged_tokens_likelier():
    texts = some_texts()
    tuned = ImplicitQLearning(lstm(), texts, lm_learning_rate=1e-2, hidden_units=7).learn(30)
    assert (
        tuned.lm.score(texts.prefixes).log_probs.sum()
        > lstm().score(texts.prefixes).log_probs.sum() + 10
    )


def test_the_states_are_those_of_a_fresh_reading():
    """What a frozen model's learner keeps is what a learner that reads at each update sees."""
    lm = causal("gpt2").requires_grad_(True)
    kept = learned(lm, max_gradient_norm=None)
    read = learned(lm, max_gradient_norm=None, lm_learning_rate=1e-30)  # the weights do not move
    for one, other in zip(kept.q.parameters(), read.q.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    assert kept.losses.keys() | {"cloning"} == read.losses.keys()


def test_half_precision_does_not_round_rewards():
    texts = some_texts()
    reader = Reader(lstm().bfloat16(), texts, frozen=True)
    states = reader.states(np.arange(len(texts)))
    assert states.hidden.dtype == torch.bfloat16
    np.testing.assert_allclose(states.rewards.numpy(), texts.rewards[texts.written], rtol=1e-6)


def test_targets_of_ragged_texts():
    """Against a loop over each text backwards: V of what is over is 0, of what is cut off V."""
    texts, lm = some_texts(), lstm()
    assert 0 < texts.terminated.sum() < len(texts)
    assert len(set(texts.prefixes.written)) == 5
    states = Reader(lm, texts, frozen=True).states(np.arange(len(texts)))
    values = torch.randn(len(states.over), dtype=torch.float64,
                         generator=torch.Generator().manual_seed(0))  # fmt: skip
    values = values.masked_fill(states.over, 0.0)
    expected, at = [], 0
    for text, length in enumerate(texts.prefixes.written):
        own = values[at : at + length + 1].tolist()
        assert (own[-1] == 0.0) == texts.terminated[text]
        after, rows = own[-1], []
        for step in reversed(range(length)):
            ahead = (1 - 0.8) * own[step + 1] + 0.8 * after
            after = texts.rewards[text, step] + 0.9 * ahead
            rows.insert(0, after)
        expected += rows
        at += length + 1
    np.testing.assert_allclose(states.targets(values, 0.9, 0.8), expected, rtol=1e-12)
    # Where a text was cut off the state is the one behind its last token; where it ended, none.
    behind = states.hidden[~states.acts].numpy()
    ends = lm.next(texts.prefixes).hidden.numpy() * ~texts.terminated[:, None]
    np.testing.assert_allclose(behind, ends, rtol=0, atol=1e-12)


def test_reading_holds_no_array_of_all_tokens(monkeypatch):
    """Of a frozen model only states are kept; logits are asked for tile by tile."""
    lm, texts = causal("llama"), some_texts()
    monkeypatch.setattr(type(lm), "read", None)
    learner = ImplicitQLearning(lm, texts, hidden_units=7, batch_texts=6).learn(2)
    tuned = ImplicitQLearning(lm, texts, learner.config, lm_learning_rate=1e-3).learn(2)
    assert tuned.updates == learner.updates == 2


def test_texts_are_read_in_parts(monkeypatch):
    whole = learned(lstm())
    monkeypatch.setattr(states_module, "PART", 6)
    for one, other in zip(whole.q.parameters(), learned(lstm()).q.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_settings_that_contradict_sense():
    for wrong in ({"expectile": 1.0}, {"trace": 1.1}, {"discount": 0.0}, {"target_rate": 1.5},
                  {"heads": 0}, {"conservative_weight": -1.0}, {"learning_rate": 0.0},
                  {"batch_texts": 2.5}, {"seed": -1}, {"heads": None},
                  {"lm_learning_rate": float("nan")}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ImplicitQConfig(**wrong)
    with pytest.raises(ValueError, match="finite beta"):
        learned(lstm()).policy(-1.0)
    with pytest.raises(ValueError, match=r"steer its \.lm"):
        SteeredLM(learned(lstm()).policy(1.0), ActionValues(8, 13), 1.0)
    with pytest.raises(ValueError, match="learned on another model"):
        SteeredLM(lstm(), ActionValues(9, 13), 1.0)
    with pytest.raises(ValueError, match="requires a gradient"):
        learned(lstm().requires_grad_(False), lm_learning_rate=0.1)
    with pytest.raises(ValueError, match="vocabulary of 13 tokens, this TabularLM has 5"):
        ImplicitQLearning(TabularLM(5), some_texts())
    other = WordVocabulary([f"v{i}" for i in range(12)], end="$")
    with pytest.raises(ValueError, match="another vocabulary than that of the language model"):
        ImplicitQLearning(lstm(), replace(some_texts(), vocabulary=other))
    with pytest.raises(ValueError, match="logged texts to learn from, got none"):
        ImplicitQLearning(lstm(), some_texts().rows(np.zeros(0, int)))
    with pytest.raises(TypeError, match="expected LoggedTexts, got 'mine/log-v0'"):
        ImplicitQLearning(lstm(), "mine/log-v0")
    with pytest.raises(ValueError, match=r"learn on its \.lm"):
        ImplicitQLearning(learned(lstm()).policy(1.0), some_texts())
    with pytest.raises(ValueError, match="updates ≥ 0"):
        learned(lstm()).learn(-1)


def test_a_loss_that_is_not_finite_leaves_the_weights():
    texts = some_texts()
    rewards = np.where(texts.rewards != 0, 1e200, 0.0)
    learner = learned(lstm())
    huge = ImplicitQLearning(
        lstm(), LoggedTexts(texts.prefixes, rewards, texts.terminated), learner.config
    )
    before = [tensor.clone() for tensor in huge.q.parameters()]
    with pytest.raises(FloatingPointError, match="scale the rewards"):
        huge.learn(1)
    assert all(torch.equal(*pair) for pair in zip(before, huge.q.parameters()))
