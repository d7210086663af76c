"""Shared pieces of the tests: shape checks at run time, and small tasks made of random numbers."""

from __future__ import annotations

import os
import random

# beartype draws which items of a list it looks at. It gets a generator of its own, so that
# `check_env` can still say who touches the one that all share.
shared, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
import beartype  # noqa: E402, F401

random.getrandbits = shared

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Before the modules that it shall check are imported, which is why the imports below come late.
install_import_hook(
    ["textenv.models", "textenv_agents.advantages", "textenv_agents.losses"], "beartype.beartype"
)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may wait for a network

from textenv import Task  # noqa: E402
from textenv.models import TabularLM  # noqa: E402
from textenv.rewards import Reward  # noqa: E402
from textenv.vocabulary import WordVocabulary  # noqa: E402

torch.set_num_threads(1)  # these tensors are too small to share


class RandomReward(Reward):
    """A number for each text, drawn once: a reward without any structure to lean on."""

    name = "random"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, prompts, completions, **columns):
        return [self._number(p, c) for p, c in zip(prompts, completions, strict=True)]

    def _number(self, prompt, completion):
        letters = [ord(letter) for letter in f"{prompt}|{completion}"]
        return float(np.random.default_rng([self.seed, *letters]).normal())


@pytest.fixture
def random_task():
    """Three words and an end token, up to 3 tokens: 1 + 3 + 9·4 = 40 texts of 1 to 3 tokens."""
    return Task(
        name="random",
        vocabulary=WordVocabulary(["a", "b", "c"], end="$"),
        max_tokens=3,
        reward=RandomReward(0),
    )


@pytest.fixture
def random_policy():
    """An order-1 table over 4 tokens, with one probability of exactly zero."""
    policy = TabularLM(4, order=1)
    with torch.no_grad():
        policy.logits.normal_(generator=torch.Generator().manual_seed(0))
        policy.logits[0, 2] = -torch.inf
    return policy


@pytest.fixture(scope="module")
def served_toy():
    """ILoveYou behind OpenEnv's protocol."""
    from tests.serving import TOY
    from textenv.interop.openenv import Server

    with Server(TOY) as server:
        yield server


@pytest.fixture
def client(served_toy):
    """Somebody who writes there."""
    from tests.serving import connected

    with connected(served_toy.address) as client:
        yield client
