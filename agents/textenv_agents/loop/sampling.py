"""Texts for the raters: which prompts, who writes, and which two are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.models import LanguageModel
from textenv_agents.evaluation import ROWS
from textenv_agents.loop.config import LoopConfig
from textenv_agents.loop.folder import LoopError
from textenv_agents.loop.world import World
from textenv_agents.rollout import collect

ATTEMPTS = 10  # how often more is written where texts are alike


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One text for the raters.

    Attributes:
        group: Texts of one group have one prompt, and are compared with each other.
        prompt: What it goes on from.
        text: What was written.
        policy: Who wrote it: "start", "round-01", …
        against: Whether it stands against the current policy's texts, and not beside its own.
        flagged: Why the filter flags it; None: it does not.
        columns: What else the task says of the prompt.
    """

    group: int
    prompt: str
    text: str
    policy: str
    against: bool = False
    flagged: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; columns that it cannot are a `TypeError`."""
        return asdict(self)


def write_samples(
    config: LoopConfig,
    world: World,
    number: int,
    ours: tuple[str, LanguageModel],
    theirs: tuple[str, LanguageModel] | None = None,
) -> list[Sample]:
    """Write until there are as many pairs of different texts as a round asks about.

    The prompts of a round are different ones, as far as the task has enough.

    Args:
        config: The loop's.
        world: Its environments.
        number: Of the round.
        ours: The current policy's name, and the policy.
        theirs: The policy that writes the other half of each group; None: all is ours.

    Raises:
        LoopError: after some attempts there is not one pair of different texts.
    """
    generator = config.generator(number, "samples")
    mine = config.samples if theirs is None else math.ceil(config.samples / 2)
    writers = [(*ours, False, mine)]
    if theirs is not None:
        writers.append((*theirs, True, config.samples - mine))
    in_a_group = math.comb(config.samples, 2) if theirs is None else mine * (config.samples - mine)
    samples: list[Sample] = []
    groups = found = 0
    for _ in range(ATTEMPTS):
        new = math.ceil((config.pairs - found) / in_a_group)
        prompts = np.resize(generator.permutation(len(world.task.prompts)), new)
        written: list[Sample] = []
        for name, policy, against, each in writers:
            who = {"policy": name, "against": against}
            written += _written(config, world, policy, prompts, each, generator, groups, who)
        samples += sorted(written, key=lambda sample: sample.group)
        groups += new
        found = sum(1 for _ in pairs(samples))
        if found >= config.pairs:
            break
    if not found:
        raise LoopError(
            f"there is nothing to compare: in all {groups} groups of {config.samples} texts after "
            f"one prompt, the texts are the same; {config.env} needs a policy whose texts differ"
        )
    return samples


def pairs(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Two different texts of one group; what stood there before is not asked again.

    >>> a, b = (Sample(group=0, prompt="", text=text, policy="start") for text in "ab")
    >>> len(list(pairs([a, b]))), len(list(pairs([a, a])))
    (1, 0)
    """
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    seen = set()
    for group in groups.values():
        ours = [sample for sample in group if not sample.against]
        theirs = [sample for sample in group if sample.against]
        for first, second in product(ours, theirs) if theirs else combinations(ours, 2):
            key = (first.prompt, *sorted((first.text, second.text)))
            if first.text != second.text and key not in seen:
                seen.add(key)
                yield first, second


def _written(
    config: LoopConfig,
    world: World,
    policy: LanguageModel,
    prompts: npt.NDArray[np.int64],
    each: int,
    generator: np.random.Generator,
    first_group: int,
    who: Mapping[str, Any],
) -> list[Sample]:
    """Let one policy write `each` texts after every prompt."""
    from textenv.filters import flag

    task = world.task
    index = np.repeat(prompts, each)
    uniforms = generator.random((len(index), task.rules.max_tokens))
    envs = world.writing(min(ROWS, len(index)))
    episodes = collect(envs, policy, index, uniforms, sampling=config.agent.sampling)
    envs.close()
    policy.forget()
    texts = [
        task.vocabulary.decode(mdp.text_ids(task.rules, row)) for row in episodes.prefixes.tokens
    ]
    openings = [task.prompts[i] for i in index.tolist()]
    listed = list(config.blocklist) or None
    reasons = flag(openings, texts, toxicity=config.toxicity, blocklist=listed)
    return [
        Sample(
            group=first_group + place // each,
            prompt=prompt,
            text=text,
            flagged=reason,
            columns={name: values[i] for name, values in task.columns.items()},
            **who,
        )
        for place, (i, prompt, text, reason) in enumerate(
            zip(index.tolist(), openings, texts, reasons, strict=True)
        )
    ]
