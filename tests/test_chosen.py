"""Log-probabilities computed tile by tile are those of all logits at once; so are gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.small_tasks import ragged_task, random_prefixes
from tests.tiny_models import VOCABULARY, V, make
from textenv.models import chosen as module
from textenv.models.chosen import chosen

RULES = ragged_task(6, vocabulary=VOCABULARY, prompts=["w1", "w2 w3"], stop=[]).rules


def asked(lm, **settings):
    prefixes = random_prefixes(RULES, 3, rows=9)
    rows, steps = np.nonzero(np.arange(RULES.max_tokens) < prefixes.written[:, None])
    return prefixes, rows, steps, chosen(lm, prefixes, rows, steps, **settings)


@pytest.mark.parametrize("kept", [2**24, 0])
@pytest.mark.parametrize(("tile", "least"), [(2**19, 256), (16, 4)])  # one tile, and many
@pytest.mark.parametrize("kind", ["tabular", "lstm", "gpt2", "gemma2, window of 4"])
def test_as_score_says_with_gradient(kind, tile, least, kept, monkeypatch):
    monkeypatch.setattr(module, "_TILE", tile)
    monkeypatch.setattr(module, "_ROWS", least)
    monkeypatch.setattr(module, "_KEPT", kept)
    lm = make(kind)
    prefixes, rows, steps, found = asked(lm, entropy=True)
    score = lm.score(prefixes, entropy=True)
    torch.testing.assert_close(found.log_probs, score.log_probs[rows, steps], rtol=0, atol=1e-10)
    torch.testing.assert_close(found.entropy, score.entropy[rows, steps], rtol=0, atol=1e-10)
    weights = torch.linspace(-1, 1, len(rows), dtype=torch.float64)
    parameters = list(lm.parameters())

    def gradients(log_probs, entropy):
        loss = (log_probs * weights).sum() + 0.3 * (entropy * weights.flip(0)).sum()
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    ours = gradients(found.log_probs, found.entropy)
    theirs = gradients(score.log_probs[rows, steps], score.entropy[rows, steps])
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_only_what_is_allowed_counts():
    lm = make("gpt2")
    may = np.random.default_rng(0).random((1_000, V)) < 0.5
    prefixes, rows, steps, found = asked(lm, entropy=True, allowed=lambda part: may[part])
    logits, _ = lm.read(prefixes, rows, steps)
    cut = logits.masked_fill(~torch.as_tensor(may[: len(rows)]), -torch.inf).log_softmax(-1)
    tokens = torch.as_tensor(prefixes.tokens[rows, prefixes.start + steps])
    expected = cut.gather(-1, tokens[:, None])[:, 0]
    assert (expected == -torch.inf).any()
    torch.testing.assert_close(found.log_probs, expected, rtol=0, atol=1e-10)
    some = torch.distributions.Categorical(logits=cut).entropy()
    torch.testing.assert_close(found.entropy, some, rtol=0, atol=1e-10)


def test_no_array_of_all_logits():
    """The largest tensor that is made is a tile, though positions · V is many."""
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            made = function(*arguments, **(keywords or {}))
            for tensor in made if isinstance(made, tuple | list) else [made]:
                sizes.append(tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
            return made

    number, size, width = 3_000, 7_000, 4
    generator = torch.Generator().manual_seed(0)
    states, weight = (
        torch.randn(rows, width, generator=generator, requires_grad=True) for rows in (number, size)
    )
    tokens = torch.randint(size, (number,), generator=generator)
    how = module._How(size, (), None, True)
    with Watch():
        log_probs, entropy = module._FromStates.apply(states, weight, None, tokens, how)
        (log_probs.sum() + entropy.sum()).backward()
    assert max(sizes) <= module._TILE < number * size / 30


def test_no_wrong_second_derivative():
    lm = make("lstm")
    _, _, _, found = asked(lm)
    slope = torch.autograd.grad(found.log_probs.sum(), [lm.head.weight], create_graph=True)[0]
    assert not slope.requires_grad  # torch refuses to go on from here
