"""Sampling, and what a cut left: drawn, stored, and used again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny_models import V, causal, lstm, tabular
from textenv.models import Kept, Prefixes, Sampling
from textenv.models.base import divergences
from textenv.models.sampling import draw, pack, packed, unpacked

P, T, END = 2, 5, V - 1
SETTINGS = {
    "as it is": Sampling(),
    "temperature": Sampling(temperature=0.7),
    "top-k": Sampling(top_k=3),
    "top-p": Sampling(top_p=0.8),
    "minimum length": Sampling(min_tokens=3),
    "forbidden": Sampling(forbidden=(2, 5)),
    "forced": Sampling(forced={1: 4}),
    "all": Sampling(
        temperature=1.3, top_k=6, top_p=0.9, min_tokens=2, forbidden=(7,), forced={3: 1}
    ),
}


def write(model, sampling, rows=6, seed=0):
    """Write T tokens in each row; return the texts, log π as drawn, and what was kept."""
    generator = np.random.default_rng(seed)
    tokens = np.full((rows, P + T), V)
    tokens[:, :P] = generator.integers(V - 1, size=(rows, P))
    log_probs, bits = np.zeros((rows, T)), np.zeros((rows, T, (V + 7) // 8), np.uint8)
    for step in range(T):
        written = np.full(rows, step)
        logits = model.next(Prefixes(tokens, P, V, written)).logits
        kept = sampling.keep(logits, written, (END,))
        drawn = draw(logits, generator.random(rows), temperature=sampling.temperature, kept=kept)
        tokens = tokens.copy()
        tokens[:, P + step], log_probs[:, step] = drawn
        bits[:, step] = pack(torch.ones_like(logits, dtype=torch.bool) if kept is None else kept)
    texts = Prefixes(tokens, P, V, np.full(rows, T))
    return texts, log_probs, Kept(sampling.temperature, bits if sampling.cuts else None)


@pytest.mark.parametrize("make", [tabular, lstm, lambda: causal("gpt2")])
@pytest.mark.parametrize("name", SETTINGS)
def test_scored_later_is_as_it_was_drawn(name, make):
    """The ratio of new to old probabilities is 1 before the first update."""
    model = make()
    texts, log_probs, kept = write(model, SETTINGS[name])
    score = model.score(texts, sampling=kept)
    np.testing.assert_allclose(score.log_probs.detach(), log_probs, rtol=0, atol=1e-6)
    assert (log_probs > -np.inf).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_kl_is_zero_for_the_same_model_and_finite_for_another(name):
    model, other = causal("gpt2"), causal("gpt2")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    texts, _, kept = write(model, SETTINGS[name])
    ours = model.score(texts, sampling=kept, distributions=True)
    assert (divergences(ours, ours) == 0).all()
    kl = divergences(ours, other.score(texts, sampling=kept, distributions=True))
    assert kl.isfinite().all()
    assert (kl >= -1e-12).all()
    assert kl.sum() > 0
    kl.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_without_what_was_kept_the_numbers_would_be_others():
    """The field's classic error: scoring a cut text under the uncut distribution."""
    model = causal("gpt2")
    texts, log_probs, _ = write(model, SETTINGS["top-k"])
    assert np.abs(model.score(texts).log_probs.detach().numpy() - log_probs).max() > 0.1


def test_what_is_kept_by_hand():
    # p = 0.5, 0.25, 0.125, 0.125
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    written = np.array([1])

    def kept(ending=(), **settings):
        return Sampling(**settings).keep(logits, written, ending)[0].tolist()

    assert Sampling().keep(logits, written) is None
    assert Sampling(temperature=2.0).keep(logits, written) is None
    assert kept(top_k=2) == [True, True, False, False]
    assert kept(top_k=3) == [True, True, True, True]  # a tie stays together
    assert kept(top_p=0.5) == [True, False, False, False]
    assert kept(top_p=0.51) == [True, True, False, False]
    assert kept(top_p=0.8) == [True, True, True, False]
    assert kept(forbidden=(0,)) == [False, True, True, True]
    assert kept(forced={1: 3}) == [False, False, False, True]
    assert kept(forced={0: 3}) == [True, True, True, True]
    assert kept(min_tokens=2, ending=(0, 1)) == [False, False, True, True]
    assert kept(min_tokens=1, ending=(0, 1)) == [True, True, True, True]
    # The temperature comes first: √p = 0.36, 0.26, 0.19, 0.19 of their sum.
    assert kept(temperature=2.0, top_p=0.5) == [True, True, False, False]
    # Forbidden before top-k and top-p: of 0.25, 0.125, 0.125 half is the first.
    assert kept(forbidden=(0,), top_p=0.5) == [False, True, False, False]
    assert kept(forbidden=(0,), top_k=1) == [False, True, False, False]


def p_value(chi_square, degrees):
    """P(X ≥ χ²) = Q(k/2, χ²/2), the regularised upper incomplete gamma function."""
    half = torch.tensor([degrees / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1])) if degrees else 1.0


@pytest.mark.parametrize("name", ["as it is", "temperature", "top-k", "top-p", "all"])
def test_tokens_are_drawn_from_the_distribution(name):
    """Chi-square over 20,000 tokens; and never one of probability 0."""
    sampling, number = SETTINGS[name], 20_000
    logits = torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    logits[0, [3, 8]] = -torch.inf
    written = np.array([3 if name != "all" else 0])
    kept = sampling.keep(logits, written, (END,))
    uniforms = np.random.default_rng(0).random(number)
    drawn = draw(
        logits.expand(number, V), uniforms, temperature=sampling.temperature,
        kept=None if kept is None else kept.expand(number, V),
    )  # fmt: skip
    cut = (logits / sampling.temperature).masked_fill(
        torch.zeros_like(logits, dtype=torch.bool) if kept is None else ~kept, -torch.inf
    )
    probabilities = torch.softmax(cut.double(), -1)[0].numpy()
    counts = np.bincount(drawn.tokens, minlength=V)
    assert not counts[probabilities == 0].any()
    possible = probabilities > 0
    expected = number * probabilities[possible]
    assert p_value(((counts[possible] - expected) ** 2 / expected).sum(), possible.sum() - 1) > 1e-3
    np.testing.assert_allclose(drawn.log_probs, np.log(probabilities[drawn.tokens]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_unit_interval(dtype):
    logits = torch.full((4, 1000), -torch.inf, dtype=dtype)
    logits[:, [7, 500]] = 0.0
    uniforms = np.array([0.0, 0.4999999, 0.5000001, np.nextafter(1.0, 0.0)])
    assert draw(logits, uniforms).tokens.tolist() == [7, 7, 500, 500]


def test_large_vocabularies_keep_their_precision():
    """A cumulative sum in float32 over 50,000 tokens would be off by far more than a token."""
    number = 49_152
    uniforms = (np.arange(0, number, 64) + 0.5) / number
    logits = torch.zeros(1, number).expand(len(uniforms), number)
    np.testing.assert_allclose(
        draw(logits, uniforms).tokens, np.arange(0, number, 64), rtol=0, atol=1
    )


def test_drawing_leaves_the_logits_as_they_are():
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    kept = Sampling(top_k=2).keep(logits, np.zeros(3, np.int64))
    draw(logits, np.full(3, 0.5), temperature=0.5, kept=kept)
    assert torch.equal(logits, before)


def test_rows_of_what_was_kept():
    model = tabular()
    texts, log_probs, kept = write(model, SETTINGS["all"])
    chosen = np.array([4, 1])
    part = model.score(texts.rows(chosen), sampling=kept.rows(chosen)).log_probs
    np.testing.assert_allclose(part.detach(), log_probs[chosen], atol=1e-6)
    assert Kept(0.5).rows(chosen) == Kept(0.5) or Kept(0.5).rows(chosen).bits is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature > 0, got 0.0; for the likeliest"),
        ({"top_k": 0}, "top_k ≥ 1"),
        ({"top_p": 0.0}, "0 < top_p ≤ 1"),
        ({"top_p": 1.5}, "0 < top_p ≤ 1"),
        ({"min_tokens": -1}, "min_tokens ≥ 0"),
        ({"temperature": float("inf")}, "finite temperature > 0"),
        ({"top_k": True}, "expected integers in top_k, min_tokens and ids, got True"),
        ({"forced": {-1: 3}}, "steps are counted from 0"),
        ({"forced": {0: 3}, "forbidden": (3, 4)}, r"\[3\] are both forced and forbidden"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_settings_that_do_not_fit_the_vocabulary():
    with pytest.raises(ValueError, match="top_k=14 is larger than the vocabulary of 13"):
        Sampling(top_k=14).check(V)
    with pytest.raises(ValueError, match=r"ids lie in 0 … 12, got 13"):
        Sampling(forbidden=(13,)).check(V)
    logits = torch.tensor([[0.0, -torch.inf]])
    with pytest.raises(ValueError, match="leaves nothing to write at step 2 of row 0"):
        Sampling(forbidden=(0,)).keep(logits, np.array([2]))


@pytest.mark.parametrize("size", [1, 8, 13, 64])
def test_bits_are_packed_on_a_gpu_as_numpy_packs_them(size):
    kept = torch.rand(5, size, generator=torch.Generator().manual_seed(0)) < 0.5
    np.testing.assert_array_equal(packed(kept).numpy(), np.packbits(kept.numpy(), axis=-1))
    np.testing.assert_array_equal(packed(kept).numpy(), pack(kept))
    assert torch.equal(unpacked(packed(kept), size), kept)


def test_half_precision_is_drawn_from_in_float32():
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    uniforms = np.random.default_rng(0).random(200)
    low, high = draw(logits, uniforms), draw(logits.float(), uniforms)
    np.testing.assert_array_equal(low.tokens, high.tokens)
    np.testing.assert_array_equal(low.log_probs, high.log_probs)


def test_what_is_forced_must_be_possible():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    with pytest.raises(ValueError, match="leaves nothing to write at step 0"):
        Sampling(forced={0: 1}).keep(logits, np.array([0]))
    with pytest.raises(ValueError, match="too early there"):
        Sampling(forced={0: 2}, min_tokens=1).keep(logits, np.array([0]), (2,))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_distribution_cannot_be_drawn_from(bad):
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    with pytest.raises(ValueError, match="nothing can be drawn in row 1: its logits hold NaN"):
        draw(logits, np.full(2, 0.5))
    with pytest.raises(ValueError, match="row 0"):
        draw(torch.full((1, 3), -torch.inf), np.full(1, 0.5))


def test_very_cold_is_the_likeliest():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert draw(logits, np.array([0.999]), temperature=1e-40).tokens.tolist() == [1]
    model = tabular()
    texts, log_probs, kept = write(model, Sampling(temperature=1e-30))
    score = model.score(texts, sampling=kept).log_probs
    np.testing.assert_allclose(score.detach(), log_probs, atol=1e-9)


def test_top_p_needs_no_whole_sort():
    """Flat distributions keep more than the first 256 tokens; peaked ones few."""
    logits = torch.stack([torch.zeros(3000), torch.linspace(0, -3000, 3000)])
    kept = Sampling(top_p=0.5).keep(logits, np.zeros(2, np.int64))
    flat, peaked = kept.sum(dim=1).tolist()
    assert abs(flat - 1500) <= 1
    assert peaked == 1
