"""A head trained under differential privacy: DP-SGD (Abadi et al. 2016) by Opacus.

The promise, (ε, δ)-differential privacy, is for **one row**: one comparison or one rating, added or
taken away. Who gave several rows is protected for each of them, not for all together. What it
covers is everything that is made of the private rows: the heads. So nothing else may come of them:
no vocabulary, no standardising, no early stopping, no validation figures, no first guess of the
bias; and the number of rows counts as known. Noise from a seed that can be guessed is no noise, so
the seed has 128 bits of the operating system's unless a test gives one: torch's own generators keep
32 bits of a seed, which can all be tried. Not defended against: attacks on floating-point noise
(Mironov 2012), and who can watch the training.

Abadi et al. 2016, https://arxiv.org/abs/1607.00133; Mironov 2017, https://arxiv.org/abs/1702.07476.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from textenv.errors import MissingExtraError
from textenv.preferences.reward_model.config import RewardModelConfig
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.objectives import Objective, Pairs, bradley_terry
from textenv.preferences.reward_model.rows import Rows, dense

EPOCHS = 20


class Privacy(NamedTuple):
    """What was promised, and by what noise.

    epsilon: ε as the accountant (Rényi differential privacy) gives it after the last step.
    delta: δ.
    noise_multiplier: the noise's deviation over `clip`.
    sample_rate: the chance of each row to be in a step (Poisson sampling).
    steps: of all heads together.
    clip: the longest gradient of one row.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    clip: float


def fit_privately(
    rows: Rows, objective: Objective, config: RewardModelConfig
) -> tuple[list[Head], Privacy]:
    """Train all heads of an ensemble; the ε is that of all of them together.

    Args:
        rows: The features of all texts, [n, D]; each from its own text alone.
        objective: m rows of data.
        config: The settings.

    Raises:
        MissingExtraError: Opacus is not installed.
        ValueError: no noise reaches so small an ε.
    """
    try:
        with _quiet():
            from opacus.accountants import RDPAccountant
            from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise MissingExtraError("opacus", "training with epsilon=") from error
    assert config.epsilon is not None
    count = len(objective[0])
    rate = min(1.0, config.batch_size / count)
    steps = max(1, round((config.epochs or EPOCHS) / rate))
    delta = 1 / (2 * count) if config.delta is None else config.delta
    accountant = RDPAccountant()
    with _quiet():
        try:
            noise = get_noise_multiplier(
                target_epsilon=config.epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps * config.ensemble,
                accountant="rdp",
            )
        except ValueError as error:
            raise ValueError(
                f"expected an epsilon that {steps * config.ensemble} steps can keep, got "
                f"{config.epsilon}, which is less than can be shown at δ = {delta:.3g}: take a "
                "larger epsilon or a larger delta"
            ) from error
        generator = np.random.default_rng(config.noise_seed)
        heads = [
            _fit(rows, objective, config, steps, rate, noise, generator, accountant)
            for _ in range(config.ensemble)
        ]
        spent = max(0.0, float(accountant.get_epsilon(delta)))
    promised = Privacy(spent, delta, noise, rate, steps * config.ensemble, config.clip)
    return heads, promised


def _fit(
    rows: Rows,
    objective: Objective,
    config: RewardModelConfig,
    steps: int,
    rate: float,
    noise: float,
    generator: np.random.Generator,
    accountant: Any,
) -> Head:
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    class Optimiser(DPOptimizer):
        def add_noise(self) -> None:
            """As Opacus does it, but from a generator whose seed cannot be guessed."""
            for parameter in self.params:
                drawn = generator.normal(0, noise * config.clip, parameter.summed_grad.shape)
                parameter.grad = parameter.summed_grad + torch.as_tensor(drawn).float()

    pairs = isinstance(objective, Pairs)
    width = rows.shape[1] if isinstance(rows, Tensor) else rows.width
    linear = nn.utils.skip_init(nn.Linear, width, 1, bias=not pairs)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.zero_()
    model = GradSampleModule(linear, loss_reduction="sum")  # as the losses are added up below
    count = len(objective[0])
    optimiser = Optimiser(
        # The penalty is on the weights alone, not on the data, so it costs no privacy.
        torch.optim.Adam(linear.parameters(), config.learning_rate, weight_decay=config.l2 / count),
        noise_multiplier=noise,
        max_grad_norm=config.clip,
        expected_batch_size=rate * count,
    )
    optimiser.attach_step_hook(accountant.get_optimizer_hook_fn(rate))
    average = Head(width)
    for step in range(steps):
        chosen = torch.as_tensor(np.flatnonzero(generator.random(count) < rate))
        optimiser.zero_grad()
        _losses(model, rows, objective.rows(chosen)).sum().backward()
        optimiser.step()
        if step >= steps // 2:  # the mean of the last half: less noise, at no price
            _add(average, linear, 1 / (steps - steps // 2))
    return average


def _losses(model: nn.Module, rows: Rows, batch: Objective) -> Tensor:
    """The losses of a few rows, which may be none at all."""
    if isinstance(batch, Pairs):
        differences = dense(rows, batch.first) - dense(rows, batch.second)
        return bradley_terry(model(differences.float())[:, 0], batch.labels.float())
    return (model(dense(rows, batch.text).float())[:, 0] - batch.values.float()).square()


@torch.no_grad()
def _add(average: Head, linear: nn.Linear, share: float) -> None:
    average.weight.add_(linear.weight.T, alpha=share)
    if linear.bias is not None:
        average.bias.add_(linear.bias, alpha=share)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Opacus from warning of what is known here: its choice of orders, and its hooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is the (largest|smallest) alpha")
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        yield
