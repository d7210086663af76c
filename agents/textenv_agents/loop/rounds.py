"""The loop, top to bottom: sample → rate → reward model → policy → evaluate, and again.

Each step reads its input from the loop's folder and writes its result there whole, and is left out
where its result is there: so a loop that was killed at any moment goes on as if it had not been.
Christiano et al. 2017 (https://arxiv.org/abs/1706.03741), for language models Ziegler et al. 2019
(https://arxiv.org/abs/1909.08593), are the loop; the texts of each round come from the policy of
the last one, so that the reward model learns where the policy now writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from textenv.models import LanguageModel
from textenv.preferences import Comparison, Rater
from textenv.preferences.database import Database, rate_all
from textenv.preferences.reward_model.features import make_features
from textenv_agents.loop.config import LoopConfig
from textenv_agents.loop.folder import LoopError, LoopFolder, RoundFolder, read_lines, write_lines
from textenv_agents.loop.learning import train_policy, train_reward_model
from textenv_agents.loop.measuring import measure, measure_start
from textenv_agents.loop.outcome import Outcome, Waiting
from textenv_agents.loop.people import serve
from textenv_agents.loop.rating import ask, find_rater, people_left
from textenv_agents.loop.sampling import Sample, write_samples
from textenv_agents.loop.summary import write_summary
from textenv_agents.loop.world import World

Say = Callable[[str], Any]


def loop(config: LoopConfig, *, say: Say = lambda _: None, progress_bar: bool = False) -> Outcome:
    """Begin a loop and do its rounds, as far as they can be done; `folder` says what is written.

    Args:
        config: The loop.
        say: Called with a line for each step.
        progress_bar: Show one while a policy is trained.

    Raises:
        FileExistsError: the folder is there and not empty.
        UnknownNameError: the rater, the reward model's features, or a part of the environment have
            a name that nobody knows.
        LoopError: the policy writes no two different texts, or there are too few comparisons.
    """
    name = f"loop-{config.env.split('/')[-1]}-seed-{config.seed}"
    if config.lm is not None and Path(config.lm).exists():  # found from everywhere
        config = replace(config, lm=str(Path(config.lm).resolve()))
    world = World(config)
    # Before anything is written or rated: what nobody knows leaves no folder, and costs no ratings.
    find_rater(config, world)
    make_features(config.reward_model)
    folder = LoopFolder.create(config.folder or Path("runs") / name, config)
    return Loop(folder, world, say, progress_bar).run()


def resume(folder: str | Path, *, say: Say = lambda _: None, progress_bar: bool = False) -> Outcome:
    """Go on with a loop, with its own settings, where it was interrupted or waits for people.

    With a rater that says the same when it is asked twice, and as far as `train.resume` promises
    it, the weights and numbers at the end are those of a loop that was never interrupted.

    Args:
        folder: The loop's.
        say: As for `loop`.
        progress_bar: As for `loop`.

    Raises:
        LoopError: the folder holds no loop, or a finished one (`LoopFinishedError`), or its
            settings or its starting policy are others by now.
    """
    opened = LoopFolder.open(Path(folder))
    return Loop(opened, World(opened.config), say, progress_bar).run()


class Loop:
    """One process at work in a loop's folder.

    Args:
        folder: The loop's.
        world: Its environments.
        say: Called with a line for each step.
        progress_bar: Show one while a policy is trained.
    """

    def __init__(self, folder: LoopFolder, world: World, say: Say, progress_bar: bool) -> None:
        self.folder = folder
        self.config = folder.config
        self.world = world
        self.rater: Rater | None = find_rater(folder.config, world)
        self.say = say
        self.progress_bar = progress_bar

    def run(self) -> Outcome:
        """Do what is left."""
        with self.folder.locked():
            self.start()
            for number in range(1, self.config.rounds + 1):
                folder = self.folder.round(number)
                if folder.finished:
                    continue
                folder.path.mkdir(parents=True, exist_ok=True)
                self.sample(folder)
                waiting = self.rate(folder)
                if waiting is not None:
                    return self._outcome(waiting)
                self.learn_reward(folder)
                self.learn_policy(folder)
                self.evaluate(folder)
                write_summary(self.folder, self._done())
            write_summary(self.folder, self._done())  # a kill may have come before the last one
            return self._outcome(None)

    # 0. The start.

    def start(self) -> None:
        """Measure the policy that everything begins with; later it has to be the same."""
        if not self.folder.round(0).finished:
            self.say(f"the starting policy writes {self.config.texts} texts")
            measure_start(self.folder, self.world)
        elif self.folder.round(0).numbers()["starting_policy"] != self.world.digest():
            raise LoopError(
                f"the model {self.config.lm or 'of ' + self.config.env} is not the one that this "
                "loop began with: its weights are others"
            )

    # 1. Sample.

    def sample(self, folder: RoundFolder) -> None:
        """Let the current policy write for the raters."""
        if folder.samples.exists():
            return
        self.say(f"round {folder.number}: {self._current(folder).writer} writes for the raters")
        current = self._current(folder)
        opponents = {
            "self": None,
            "start": self.folder.round(0),
            "previous": self.folder.round(max(0, current.number - 1)),
        }
        other = opponents[self.config.opponent]
        samples = write_samples(
            self.config,
            self.world,
            folder.number,
            (current.writer, self._policy(current)),
            None if other is None else (other.writer, self._policy(other)),
        )
        write_lines(folder.samples, [sample.to_json() for sample in samples])

    # 2. Rate.

    def rate(self, folder: RoundFolder) -> Waiting | None:
        """Have the pairs compared; the comparisons of all rounds so far are what is learned from.

        Returns:
            What people have to do first; None: enough is rated.
        """
        if folder.comparisons.exists():
            return None
        number = folder.number
        samples = [Sample(**row) for row in read_lines(folder.samples)]
        with Database(self.folder.ratings) as database:
            ask(database, number, samples, self.config.pairs)
            if self.rater is not None:
                count = len(database.pairs(number))
                self.say(f"round {number}: {self.rater.name} compares {count} pairs")
                rate_all(database, self.rater, number)
            waiting = people_left(self.config, database, number) if self.rater is None else None
            if waiting is not None and self.config.serve:
                waiting = serve(self.config, database, number, self.say)
            if waiting is not None:
                return waiting
            known = [each for n in range(1, number + 1) for each in database.comparisons(n)]
        write_lines(folder.comparisons, [vars(comparison) for comparison in known])
        return None

    # 3. Learn what raters prefer.

    def learn_reward(self, folder: RoundFolder) -> None:
        """Train a reward model on all comparisons so far."""
        if folder.reward_model.exists():
            return
        known = [Comparison(**row) for row in read_lines(folder.comparisons)]
        self.say(f"round {folder.number}: a reward model learns from {len(known)} comparisons")
        report = train_reward_model(self.config, folder, known)
        if not any(report.epochs):  # early stopping found nothing better than no model at all
            self.say(
                f"round {folder.number}: the reward model has learned nothing that holds on what "
                "was held out, and pays 0 for every text: more pairs would help, or surer raters"
            )

    # 4. Learn to write it.

    def learn_policy(self, folder: RoundFolder) -> None:
        """Train the policy on the learned reward, near the starting policy."""
        if (folder.policy / "checkpoint").exists():
            return
        self.say(f"round {folder.number}: the policy writes {self.config.tokens:,} tokens to learn")
        again = self.config.begin == "start"
        policy = self._policy(self.folder.round(0) if again else self._current(folder))
        train_policy(self.config, self.world, folder, policy, progress_bar=self.progress_bar)

    # 5. Evaluate.

    def evaluate(self, folder: RoundFolder) -> None:
        """Measure the round's policy; with its numbers the round is finished."""
        samples = [Sample(**row) for row in read_lines(folder.samples)]
        with Database(self.folder.ratings) as database:
            pairs = len(database.pairs(folder.number))
        further = {
            "pairs": pairs,
            "comparisons": len(read_lines(folder.comparisons)),
            "flagged": sum(sample.flagged is not None for sample in samples),
        }
        policy = self._policy(folder)
        measure(self.folder, self.world, folder, policy, self.rater, further)

    # What the steps share.

    def _current(self, folder: RoundFolder) -> RoundFolder:
        """The round whose policy writes for the raters: the one before."""
        return self.folder.round(folder.number - 1)

    def _policy(self, folder: RoundFolder) -> LanguageModel:
        """The policy that a round left, read afresh; round 0's is a copy of the starting policy."""
        if folder.number == 0:
            return self.world.fresh()
        return self.world.trained(folder.policy / "checkpoint")

    def _outcome(self, waiting: Waiting | None) -> Outcome:
        return Outcome(self.folder.path, self._done(), waiting, self.config.raters_per_pair)

    def _done(self) -> list[dict[str, Any]]:
        return [folder.numbers() for folder in self.folder.rounds if folder.finished]
