"""`textenv evaluate`: fresh texts of a policy, or of two on the same draws, and all their numbers.

The numbers themselves are `textenv.evaluate`'s; here texts are written and models are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from textenv.errors import TextenvError
from textenv.evaluate import Report, Written, compare, counted, page, rows_of, samples_of
from textenv.evaluate.measures import check_names, check_references
from textenv.files import free_folder, replaced_folder
from textenv.filters import flag
from textenv.models import LanguageModel
from textenv.models.loading import find_device
from textenv.models.sampling import Sampling
from textenv.preferences import Rater
from textenv_agents.environments import check_id
from textenv_agents.evaluate_config import EvaluateConfig
from textenv_agents.evaluation import drawn, environments
from textenv_agents.fresh_texts import FreshTexts
from textenv_agents.policies import START, Policy, check_same_vocabulary, find_policy
from textenv_agents.rollout import PLAIN

Model = LanguageModel | str | Path
JSON, PAGE = "evaluation.json", "samples.html"


def report(
    policy: Model,
    env: str,
    *,
    against: Model | None = None,
    rater: Rater | str | None = None,
    reference: Model | None = None,
    texts: int = 1000,
    per_prompt: int = 1,
    seed: int = 12345,
    sampling: Sampling = PLAIN,
    measures: Sequence[str] | None = None,
    device: str | None = None,
    **keywords: Any,
) -> Report:
    """Write fresh texts and measure them; of two policies pair by pair.

    The i-th texts of both go on from the same prompt and are chosen by the same random numbers.

    Args:
        policy: A language model, its name or folder, an agent's checkpoint, a finished run's
            folder, or "start", the environment's own starting policy.
        env: An environment's id.
        against: Another policy with the same vocabulary.
        rater: Who compares their texts: a `Rater` or its name, such as "scripted:sentiment".
        reference: What KL and perplexity are measured by. None: what an agent's checkpoint began
            as, else the environment's own starting policy.
        texts: How many each policy writes.
        per_prompt: Texts of each draw of a prompt; intervals are then over draws.
        seed: Of prompts, tokens and bootstrap samples.
        sampling: Temperature and cuts, part of policy and reference, so that the KL is between
            what is left of both. The perplexity is under the reference as it is.
        measures: Names of those that are wished, of `textenv.evaluate.NAMES`; None: all that
            apply.
        device: Where models that are loaded compute.
        **keywords: For the environment, `reward=` among them.

    Raises:
        TextenvError: no such policy or rater, or a measure that has nothing to be taken from.
        ValueError: another vocabulary, too few texts, or a rater with nothing to compare.
    """
    if rater is not None and against is None:
        raise ValueError("a rater compares two policies: give the other one as against=")
    check_names(measures)
    if measures is not None and "win_rate" in measures and rater is None:
        raise ValueError("win_rate needs another policy, against=, and who compares, rater=")
    check_id(env, keywords)
    judge = _rater(rater)
    start = starter(env, keywords, device)
    ours = find_policy(policy, start, device=device)
    theirs = None if against is None else find_policy(against, start, device=device)
    base = _reference(reference, ours, start, device)
    # The environment's vocabulary is that of the model that is named by lm=, or of the policy.
    named = Policy("the environment's lm=", start()) if "lm" in keywords else None
    for one in (theirs, base, named):
        if one is not None:
            check_same_vocabulary(ours, one)
    own = {} if ours.name == START or named else {"lm": ours.model}
    envs = environments(env, texts, **own, **keywords)
    task = envs.unwrapped.task
    check_references(measures, task.columns)
    prompts, uniforms = drawn(task, texts, seed)
    if per_prompt > 1:
        prompts = np.repeat(prompts[::per_prompt], per_prompt)[:texts]
    units = np.arange(texts) // per_prompt
    wished = None if measures is None else set(measures)
    writing = FreshTexts(envs, base.model, prompts, uniforms, units, sampling, wished)
    written = writing.of(ours.model)
    other = None if theirs is None else writing.of(theirs.model)
    envs.close()
    verdicts = None if judge is None or other is None else compare(judge, written, other)
    flags = _flags(written, other, wished, keywords.get("blocklist"))
    return Report(
        env=env,
        policy=ours.name,
        against=None if theirs is None else theirs.name,
        rater=None if judge is None else judge.name,
        reference=base.name,
        settings=_settings(texts, per_prompt, seed, sampling, keywords),
        rows=rows_of(written, other, asked=measures, verdicts=verdicts, flags=flags, seed=seed),
        verdicts=counted(verdicts),
        samples=samples_of(written, other, verdicts=verdicts, flags=flags),
    )


def starter(env: str, keywords: dict[str, Any], device: str | None) -> Callable[[], Any]:
    """Make the environment's own starting policy, once, when it is asked for."""

    @cache
    def start() -> LanguageModel:
        envs: Any = gym.make_vec(env, num_envs=1, **keywords).unwrapped
        try:
            model = envs.lm
        except TextenvError as error:
            raise TextenvError(
                f"{env} has no starting policy of its own: name a language model as policy, and "
                f"one as reference ({error})"
            ) from error
        return model if device is None else model.to(find_device(device))

    return start


def _reference(
    reference: Model | None, ours: Policy, start: Callable[[], Any], device: str | None
) -> Policy:
    """The fixed model: the one that is named, or what the policy began as, or the start."""
    if reference is not None:
        return find_policy(reference, start, device=device)
    if ours.began_as is not None:
        return Policy(f"what {ours.name} began as", ours.began_as)
    return Policy(START, start())


def _rater(rater: Rater | str | None) -> Rater | None:
    if not isinstance(rater, str):
        return rater
    from textenv.preferences.raters import rater as find_rater

    return find_rater(rater)


def _flags(
    written: Written, other: Written | None, wished: set[str] | None, blocklist: Any
) -> tuple[list[str | None], list[str | None] | None] | None:
    """What the content filter says of both policies' texts."""
    if wished is not None and "flagged" not in wished:
        return None
    ours = flag(written.prompts, written.texts, blocklist=blocklist)
    if other is None:
        return ours, None
    return ours, flag(other.prompts, other.texts, blocklist=blocklist)


def _settings(
    texts: int, per_prompt: int, seed: int, sampling: Sampling, keywords: dict[str, Any]
) -> dict[str, Any]:
    """How the texts were drawn, as plain values."""
    cuts = {name: value for name, value in vars(sampling).items() if value != vars(PLAIN)[name]}
    return {
        "texts": texts,
        "per_prompt": per_prompt,
        "seed": seed,
        "sampling": {key: repr(value) if isinstance(value, dict) else value
                     for key, value in cuts.items()},
        "keywords": {key: value if isinstance(value, str | int | float | bool) else repr(value)
                     for key, value in keywords.items()},
    }  # fmt: skip


def evaluate_into_folder(config: EvaluateConfig) -> tuple[Report, Path]:
    """Do what `textenv evaluate` does: measure, and write evaluation.json and samples.html.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    folder = config.folder or free_folder(Path("runs") / "evaluation")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"the folder {str(folder)!r} is not empty: choose another by --folder"
        )
    made = report(
        config.policy,
        config.env,
        against=config.against,
        rater=config.rater,
        reference=config.reference,
        texts=config.texts,
        per_prompt=config.per_prompt,
        seed=config.seed,
        sampling=config.sampling,
        measures=config.measures,
        device=config.device,
        **config.environment_keywords(),
    )
    save(made, folder, samples=config.samples)
    return made, folder


def save(made: Report, folder: str | Path, *, samples: int = 100) -> None:
    """Write a report into a folder: its JSON, and its page with so many samples."""
    with replaced_folder(folder) as temporary:
        (temporary / JSON).write_text(made.dumps(), "utf-8")
        (temporary / PAGE).write_text(page(made, samples=samples), "utf-8")
