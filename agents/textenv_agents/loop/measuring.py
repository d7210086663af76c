"""What a round's policy is worth: by the true reward, by the learned one, and by the rater."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.metrics import Interval, mean_interval
from textenv.models import LanguageModel
from textenv.preferences import Rater
from textenv.preferences.comparisons import LABELS
from textenv.preferences.reward_model import RewardModel
from textenv_agents.evaluation import Evaluation
from textenv_agents.loop.folder import LoopFolder, RoundFolder, read_lines, write_lines
from textenv_agents.loop.world import World


def measure_start(loop: LoopFolder, world: World) -> None:
    """Measure the starting policy, and keep what the loop begins with."""
    folder = loop.round(0)
    folder.path.mkdir(parents=True, exist_ok=True)
    evaluation = world.evaluate(world.start)
    write_lines(folder.texts, _rows(world, evaluation))
    folder.finish(
        {
            **_numbers(world, evaluation),
            "settings": loop.settings(),
            "starting_policy": world.digest(),
        }
    )


def measure(
    loop: LoopFolder,
    world: World,
    folder: RoundFolder,
    policy: LanguageModel,
    rater: Rater | None,
    further: dict[str, Any],
) -> None:
    """Measure a round's policy on the prompts and random numbers of the starting policy's texts.

    Args:
        loop: The loop's folder.
        world: Its environments.
        folder: The round's.
        policy: As the round left it.
        rater: Who says which texts are better, those or the starting policy's. None, where people
            rate: the round's reward model in their place.
        further: What else the round's numbers shall hold.
    """
    model = RewardModel.from_pretrained(folder.reward_model)
    evaluation = world.evaluate(policy)
    rows = _rows(world, evaluation)
    before = read_lines(loop.round(0).texts)
    learned, learned_before = log_odds(model, rows), log_odds(model, before)
    rise = [ours - theirs for ours, theirs in zip(learned, learned_before, strict=True)]
    judge = model if rater is None else rater
    texts = [{**row, "learned": paid} for row, paid in zip(rows, learned, strict=True)]
    write_lines(folder.texts, texts)
    folder.finish(
        {
            **_numbers(world, evaluation),
            "learned_reward": list(mean_interval(learned)),
            "learned_reward_of_start": list(mean_interval(learned_before)),
            "learned_rise": list(mean_interval(rise)),
            "win_rate": list(win_rate(world, judge, rows, before)),
            "win_rate_by": judge.name if rater is not None else f"{folder.writer}'s reward model",
            **further,
            "reward_model": model.report.to_json(),
        }
    )


def win_rate(
    world: World, rater: Rater, ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]
) -> Interval:
    """How often our text beats theirs after the same prompt; a tie is half a win.

    Texts that are the same are a tie, and the rater is not asked about them.
    """
    points = [0.5] * len(ours)
    asked = [i for i in range(len(ours)) if ours[i]["text"] != theirs[i]["text"]]
    if asked:
        prompts = [ours[i]["prompt"] for i in asked]
        verdicts = rater.compare(
            prompts,
            [ours[i]["text"] for i in asked],
            [theirs[i]["text"] for i in asked],
            **world.columns(prompts),
        )
        for i, verdict in zip(asked, verdicts, strict=True):
            points[i] = LABELS[verdict]
    return mean_interval(points)


def _numbers(world: World, evaluation: Evaluation) -> dict[str, Any]:
    summary = evaluation.summary()
    reward = summary.pop("reward")
    return {"true_reward": reward if world.pays else None, **summary}


def _rows(world: World, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The texts, each with its true reward, if there is one."""
    return [
        {"prompt": prompt, "text": text, **({"true": reward} if world.pays else {})}
        for prompt, text, reward in evaluation.texts
    ]


def log_odds(model: RewardModel, rows: Sequence[dict[str, Any]]) -> list[float]:
    """What the reward model pays for each text, in the units that Bradley and Terry gave it.

    P(one is preferred to another) = σ of the difference. In these units, not in deviations of the
    texts that were compared, more comparisons make the reward bolder, and the KL's price stays what
    it is while the compared texts change from round to round.
    """
    paid = model([row["prompt"] for row in rows], [row["text"] for row in rows])
    return [number * model.deviation for number in paid]
