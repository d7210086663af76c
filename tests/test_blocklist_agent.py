"""Agents under a blocklist: what they draw, and that their numbers are those of what was left."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests import small_tasks
from tests.filtering import holds
from textenv import TextVectorEnv, exact, mdp
from textenv.filters import Blocklist, allowed_by
from textenv.models import TabularLM
from textenv.models.base import divergences
from textenv.models.sampling import Sampling
from textenv_agents import PolicyGradient
from textenv_agents.evaluation import evaluate
from textenv_agents.rollout import collect

PATTERNS = ["aa", "b?b", "ca"]  # over the words a b c ! $, of which ! and $ end a text
T = 6


def task(**changes):
    return small_tasks.ragged_task(T).with_changes(**changes)


def policy(seed=0):
    table = TabularLM(5, order=1)
    with torch.no_grad():
        table.logits.normal_(generator=torch.Generator().manual_seed(seed))
        table.logits[:, 3:] -= 1.5  # the tokens that end a text
    return table.double()


def vector(rows=8, mode="same_step", **keywords):
    keywords = {"blocklist": PATTERNS, "made": task()} | keywords
    made = keywords.pop("made")
    return TextVectorEnv(rows, made, autoreset_mode=mode, **keywords)


def queue(number, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(3, size=number), generator.random((number, T))


def texts_of(made, episodes):
    return [
        made.vocabulary.decode(mdp.text_ids(made.rules, row)) for row in episodes.prefixes.tokens
    ]


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("scoring", ["step", "deferred"])
def test_collected_texts_are_clean_and_the_same_for_any_rows(mode, scoring):
    made, (prompts, uniforms) = task(), queue(40)
    expected = collect(vector(3), policy(), prompts, uniforms)
    texts = texts_of(made, expected)
    for prompt, text in zip(prompts, texts, strict=True):
        assert not holds(PATTERNS, made.prompts[prompt], text)
    free = collect(vector(3, blocklist=None), policy(), prompts, uniforms)
    spoilt = [
        holds(PATTERNS, made.prompts[prompt], text)
        for prompt, text in zip(prompts, texts_of(made, free), strict=True)
    ]
    assert sum(spoilt) > 5
    for rows in (1, 7, 60):  # of 60 rows, 20 are idle from the beginning
        found = collect(vector(rows, mode, scoring=scoring), policy(), prompts, uniforms)
        np.testing.assert_array_equal(found.prefixes.tokens, expected.prefixes.tokens)
        np.testing.assert_array_equal(found.log_probs, expected.log_probs)
        np.testing.assert_array_equal(found.kept.bits, expected.kept.bits)
        np.testing.assert_array_equal(found.rewards.sum(axis=1), expected.rewards.sum(axis=1))


def test_idle_rows_write_what_is_allowed_to_the_last():
    # "a" and "b" cannot be repeated, "c" not at all: idle rows have to take turns, or end.
    for patterns in (["aa", "bb", "c"], ["a", "b", "c"], ["a", "b", "c", "!"][:3]):
        made = task()
        envs = vector(9, blocklist=patterns, made=made)
        prompts, uniforms = queue(12)
        texts = texts_of(made, collect(envs, policy(), prompts, uniforms))
        assert not any(holds(patterns, "", text) for text in texts)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=3, min_tokens=2)])
def test_ratio_is_one_and_the_kl_to_itself_zero(sampling):
    prompts, uniforms = queue(60)
    made, ours, theirs = task(), policy(), policy(seed=1)
    episodes = collect(vector(), ours, prompts, uniforms, sampling=sampling)
    score = ours.score(episodes.prefixes, sampling=episodes.kept, distributions=True)
    log_probs = score.log_probs.detach().numpy()
    np.testing.assert_allclose(log_probs, episodes.log_probs, rtol=0, atol=1e-12)
    assert divergences(score, score).abs().max() == 0
    reference = theirs.score(episodes.prefixes, sampling=episodes.kept, distributions=True)
    kl = divergences(score, reference).detach()
    assert torch.isfinite(kl).all()
    assert kl.min() > -1e-12
    assert kl.max() > 0.1
    if sampling == Sampling():
        # By hand: π and ρ renormalised over what is allowed, at each state that was visited.
        for text in range(0, 60, 7):
            for step in range(episodes.prefixes.written[text]):
                prefix = episodes.prefixes.rows(np.array([text]))
                tokens = prefix.tokens.copy()
                tokens[:, made.rules.prompt_length + step :] = made.rules.nothing
                state = prefix.__class__(tokens, prefix.start, prefix.nothing, np.array([step]))
                p, q = (allowed_by(made, PATTERNS, model)(state)[0] for model in (ours, theirs))
                token = episodes.prefixes.tokens[text, made.rules.prompt_length + step]
                assert np.log(p[token]) == pytest.approx(episodes.log_probs[text, step], abs=1e-12)
                some = p > 0
                by_hand = (p[some] * np.log(p[some] / q[some])).sum()
                assert float(kl[text, step]) == pytest.approx(by_hand, abs=1e-10)


def test_sampled_rewards_have_the_exact_mean():
    made = task()
    number = 6000
    generator = np.random.default_rng(3)
    prompts, uniforms = np.arange(number) % 3, generator.random((number, T))
    rewards = collect(vector(500), policy(), prompts, uniforms).rewards.sum(axis=1)
    expected = exact.value(made, allowed_by(made, PATTERNS, policy()))
    free = exact.value(made, policy())
    error = rewards.std() / np.sqrt(number)
    assert abs(rewards.mean() - expected) < 4 * error
    assert abs(free - expected) > 5 * error  # the list makes a difference


def test_min_tokens_gives_way_where_only_the_end_is_left():
    logits = torch.zeros(3, 4, dtype=torch.float64)
    written = np.array([0, 0, 5])
    allowed = np.array([[True, False, False, True], [False, False, False, True], [True] * 4])
    kept = Sampling(min_tokens=2).keep(logits, written, [3], allowed)
    assert kept.tolist() == [[True, False, False, False], [False, False, False, True], [True] * 4]
    assert Sampling().keep(logits, written, [3], allowed).tolist() == allowed.tolist()
    assert Sampling().keep(logits, written, [3]) is None
    with pytest.raises(ValueError, match="sampling leaves nothing to write"):
        Sampling(forced={0: 1}).keep(logits, written, [3], allowed)
    prompts, uniforms = queue(20)
    envs = vector(blocklist=["a", "b", "c"])
    episodes = collect(envs, policy(), prompts, uniforms, sampling=Sampling(min_tokens=3))
    assert (episodes.prefixes.written == 1).all()


def test_predictions_are_allowed():
    envs = vector(16)
    agent = PolicyGradient(policy(), envs, group=4)
    observations, _ = envs.reset(seed=0)
    generator = np.random.default_rng(0)
    for step in range(60):
        actions, _ = agent.predict(observations, deterministic=step % 2 == 0)
        allowed = envs.action_masks()
        assert allowed[np.arange(16), actions].all()
        if step % 2 == 0:
            prefixes = exact.Prefixes.from_observations(observations, 2, 5)
            logits = agent.policy.next(prefixes).logits.numpy()
            likeliest = np.where(allowed, logits, -np.inf).argmax(axis=1)
            assert (actions == likeliest).all()
        actions = np.where(generator.random(16) < 0.2, envs.task.rules.end_token, actions)
        observations, *_ = envs.step(actions)
    single, _ = agent.predict(observations[0])
    assert envs.action_masks()[0, single]


@pytest.mark.parametrize("settings", [{}, {"loss": "ppo", "epochs": 2, "minibatches": 2}])
def test_learning_under_a_blocklist(settings, tmp_path):
    made = task()
    agent = PolicyGradient(
        policy(), vector(64, scoring="deferred"), group=4, seed=0, learning_rate=0.05,
        kl_coefficient=0.01, **settings,
    )  # fmt: skip
    before = exact.value(made, allowed_by(made, PATTERNS, agent.policy))
    logged = []
    agent.learn(12_000, callback=lambda _, metrics: logged.append(metrics))
    after = exact.value(made, allowed_by(made, PATTERNS, agent.policy))
    best = exact.optimum(made, allowed=allowed_by(made, PATTERNS))
    assert logged[0]["rollout/kl"] == pytest.approx(0.0, abs=1e-12)  # policy and reference are one
    assert before + 0.2 < after <= np.mean([best.V[(i, ())] for i in range(3)]) + 1e-9


def test_a_checkpoint_brings_its_blocklist_back(tmp_path):
    envs = gym.make_vec(
        "textenv/ILoveYou-v0", num_envs=8, blocklist=["我爱"], autoreset_mode="same_step"
    )
    agent = PolicyGradient(None, envs, group=4)
    agent.save(tmp_path / "saved")
    again = PolicyGradient.load(tmp_path / "saved")
    guard = again.env.unwrapped.setup.guard
    assert guard.blocklist == Blocklist(["我爱"])
    episodes = again.collect()
    assert not any("我爱" in text for text in texts_of(again.env.unwrapped.task, episodes))


def test_evaluation_under_a_blocklist():
    lm = gym.make("textenv/ILoveYou-v0").unwrapped.lm
    found = evaluate(lm, "textenv/ILoveYou-v0", reference=lm, texts=200, blocklist=["我爱", "你"])
    assert not any("你" in text or "我爱" in text for _, text, _ in found.texts)
    assert tuple(found.kl) == (0.0, 0.0, 0.0)
    assert found.reward.mean == 0.0


LISTED = ["the", "movie", "film", "good", "bad", "a?d", "is", "it", "of", "to the", "in?o", "not"]


def spoilt(prompts, texts):
    listed = Blocklist(LISTED)
    found = [listed.find(*pair) is not None for pair in zip(prompts, texts, strict=True)]
    # The checker of the tests is slower; it looks at some.
    for prompt, text in list(zip(prompts, texts, strict=True))[::20]:
        assert not holds(LISTED, prompt, text)
    return sum(found)


@pytest.mark.parametrize("number", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_rollouts_on_the_reviews_vocabulary(number):
    rows = 1000
    envs = gym.make_vec(
        "textenv/Sentiment-v0", num_envs=rows, reward="zero", blocklist=LISTED,
        autoreset_mode="same_step",
    )  # fmt: skip
    vocabulary, rules = envs.unwrapped.task.vocabulary, envs.unwrapped.task.rules
    # Half of what is tried comes from tokens that are a part of something listed.
    parts = [
        token
        for token in range(vocabulary.size)
        if (text := vocabulary.decode([token]).strip())
        and any(text in p or p in text for p in LISTED)
    ]
    generator, finished, bitten, prompts, texts = np.random.default_rng(0), 0, 0, [], []
    envs.reset(seed=0)
    while finished < number:
        allowed = envs.unwrapped.action_masks()
        tried = generator.integers(vocabulary.size, size=rows)
        tried = np.where(generator.random(rows) < 0.5, generator.choice(parts, size=rows), tried)
        wrong = np.flatnonzero(~allowed[np.arange(rows), tried])
        bitten += len(wrong)
        while len(wrong):  # until one is allowed: uniformly among those that are
            tried[wrong] = generator.integers(vocabulary.size, size=len(wrong))
            wrong = wrong[~allowed[wrong, tried[wrong]]]
        _, _, terminated, _, infos = envs.step(tried)
        if terminated.any():
            finished += int(terminated.sum())
            for tokens in infos["final_obs"][terminated]:
                prompts.append(vocabulary.decode(mdp.prompt_ids(rules, tokens)))
                texts.append(vocabulary.decode(mdp.text_ids(rules, tokens)))
    assert spoilt(prompts, texts) == 0
    assert bitten > 2 * number  # the mask bites in each text, more than twice


def test_the_reviews_model_under_a_blocklist():
    envs = gym.make_vec(
        "textenv/Sentiment-v0", num_envs=250, reward="zero", blocklist=LISTED,
        autoreset_mode="same_step",
    )  # fmt: skip
    made, lm = envs.unwrapped.task, envs.unwrapped.lm
    generator = np.random.default_rng(0)
    prompt_index = generator.integers(len(made.prompts), size=1000)
    uniforms = generator.random((1000, made.rules.max_tokens))
    episodes = collect(envs, lm, prompt_index, uniforms)
    prompts = [made.prompts[index] for index in prompt_index]
    assert spoilt(prompts, texts_of(made, episodes)) == 0
    part = np.arange(0, 1000, 20)
    score = lm.score(episodes.prefixes.rows(part), sampling=episodes.kept.rows(part))
    difference = score.log_probs.detach().numpy() - episodes.log_probs[part]
    assert np.abs(difference).max() < 1e-4
    free = gym.make_vec(
        "textenv/Sentiment-v0", num_envs=250, reward="zero", autoreset_mode="same_step"
    )
    unmasked = collect(free, lm, prompt_index[:250], uniforms[:250])
    listed = Blocklist(LISTED)
    pairs = zip(prompts[:250], texts_of(made, unmasked), strict=True)
    assert sum(listed.find(*pair) is not None for pair in pairs) > 200


@pytest.mark.slow
def test_the_vocabulary_of_smollm2():
    from textenv.catalogue import folder_of
    from textenv.errors import TextenvError
    from textenv.vocabulary import load_vocabulary

    try:
        vocabulary = load_vocabulary(folder_of("smollm2", weights=False))
    except TextenvError as error:
        pytest.skip(str(error))
    prompts = ["the café is n", "你", "🙂 f"]
    made = task(vocabulary=vocabulary, prompts=prompts, stop=[], max_tokens=30)
    listed = [*LISTED, "你好", "é", "🙂", "ü?b"]
    envs = TextVectorEnv(200, made, blocklist=listed, autoreset_mode="same_step", info_text=True)
    guard, generator = envs.setup.guard, np.random.default_rng(0)
    # Bytes of characters that are listed, and whatever else.
    likely = [
        token
        for text in ("é ê ü🙂🙃 你好 佟", "the film not ＩＴ ⓘⓢ")
        for token in vocabulary.encode(text)
    ]
    likely = np.array(sorted({*likely, *guard._pieces.loose.tolist()}))
    envs.reset(seed=0)
    finished = bitten = 0
    while finished < 2000:
        allowed = envs.action_masks()
        tried = generator.integers(vocabulary.size, size=200)
        tried = np.where(generator.random(200) < 0.7, generator.choice(likely, size=200), tried)
        for row in np.flatnonzero(~allowed[np.arange(200), tried]):
            text = vocabulary.decode(
                [*mdp.text_ids(made.rules, envs._rows.state.tokens[row]), tried[row]]
            )
            suppressed = tried[row] in vocabulary.suppressed_tokens
            assert suppressed or holds(
                listed, made.prompts[envs._rows.state.prompt_index[row]], text
            )
            tried[row] = generator.choice(np.flatnonzero(allowed[row]))
            bitten += not suppressed
        _, _, terminated, _, infos = envs.step(tried)
        if terminated.any():
            final = infos["final_info"]
            for prompt, text in zip(
                final["prompt"][terminated], final["text"][terminated], strict=True
            ):
                assert not holds(listed, prompt, text)
            finished += int(terminated.sum())
    assert bitten > 4000


def test_the_menu_of_play_lists_what_is_allowed():
    from textenv_agents.choices import Menu

    vocabulary = task().vocabulary
    allowed = np.array([False, True, True, False, True])
    assert Menu.of(vocabulary, None, 9, allowed).ranking == [1, 2, 4]
    probabilities = np.array([0.5, 0.1, 0.2, 0.0, 0.2])
    assert Menu.of(vocabulary, probabilities, 9, allowed).ranking == [2, 4, 1]
