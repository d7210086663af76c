"""`textenv play ID`: a person writes the text, token by token, in the terminal.

Torch is loaded only if a language model is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np

import textenv
from textenv import mdp, render
from textenv.errors import InvalidActionError, TextenvError
from textenv.layout import visible
from textenv.prefixes import Prefixes
from textenv_agents.choices import Labels, Menu, read

PLAYABLE = (textenv.AllTokens, textenv.Candidates)
PAGE = 40  # tokens shown at once where no language model ranks them


def play(
    environment_id: str,
    lm: Any = None,
    seed: int | None = None,
    candidates: int = 10,
    input: Callable[[str], str] = input,
    output: Callable[[str], Any] = print,
    **keywords: Any,
) -> None:
    """Let a person write texts until they stop; the end of the input or Ctrl-C stops quietly.

    Args:
        environment_id: Such as "textenv/GoodBad-v0".
        lm: A language model, whose likeliest next tokens are shown: as for `gym.make`, or
            "default" for the environment's own. None: the vocabulary's tokens are shown.
        seed: Fixes the prompts.
        candidates: How many of the likeliest tokens are shown. With `action="candidates:k"` it is
            these k that are shown, and only they can be written.
        input: Asks for a line.
        output: Shows a text.
        **keywords: As for `gym.make`.

    Raises:
        ValueError: the id is unknown, or its environment is not one of ours whose actions are
            tokens or candidates.
        TextenvError: "default" where the environment has no language model.
    """
    if candidates < 1:
        raise ValueError(f"expected candidates ≥ 1, got {candidates}")
    if lm is not None and lm != "default":
        keywords["lm"] = lm
    try:
        env = gym.make(environment_id, **keywords).unwrapped
    except gym.error.Error as error:  # an unknown id; Gymnasium's message guesses the right one
        raise ValueError(str(error)) from error
    if not isinstance(env, textenv.TextEnv) or not isinstance(env.setup.action, PLAYABLE):
        raise ValueError(
            f"play needs a textenv environment whose actions are tokens or candidates, not {env}"
        )
    try:
        game = Game(env, None if lm is None else env.lm, candidates)
        game.start(seed)
        output("Type a number of the list, or a token; :help says what else.")
        if lm is None and env.task.starting_policy is not None and not env.setup.asks_model:
            output("(--lm default shows the tokens that the language model finds likeliest.)")
        while _write_text(game, input, output) and _again(game, input, output):
            pass
    except (EOFError, KeyboardInterrupt):
        output("")
    finally:
        env.close()


class Game:
    """The texts of one person; every token can be taken back.

    Args:
        env: Where they are written.
        model: Ranks the next tokens, or None.
        candidates: How many of the ranked tokens are shown.
    """

    def __init__(self, env: textenv.TextEnv, model: Any, candidates: int) -> None:
        self.env = env
        self.model = model
        self.size = PAGE if model is None else candidates
        self.labels = Labels(env.task.vocabulary)
        self.over = False
        self._info: dict[str, Any] = {}
        self._past: list[tuple[mdp.State, float]] = []  # before each token, and what it paid

    def start(self, seed: int | None = None) -> None:
        """Begin a text."""
        _, self._info = self.env.reset(seed=seed)
        self._past, self.over = [], False

    def write(self, token: int) -> None:
        """Write a token.

        Raises:
            TextenvError: the reward failed, or it is no candidate; nothing was written.
        """
        state = self.env.state
        _, reward, self.over, _, self._info = self.env.step(self._action(token))
        self._past.append((state, reward))

    def undo(self) -> bool:
        """Take the last token back; False where there is none."""
        if not self._past:
            return False
        state, _ = self._past.pop()
        self.env.set_state(state)
        self.over = False
        return True

    def menu(self) -> Menu:
        """Rank the next tokens."""
        offered = self._offered()
        if offered is not None:
            return Menu.offering(*offered, self.env.task.rules.vocabulary_size)
        probabilities = None
        if self.model is not None:
            prefixes = Prefixes.of(self.env.task.rules, self.env.state)
            logits = self.model.next(prefixes).logits[0]
            probabilities = logits.double().softmax(dim=-1).cpu().numpy()
        guarded = self.env.setup.guard is not None
        allowed = self.env.action_masks() if guarded else None
        return Menu.of(self.env.task.vocabulary, probabilities, self.size, allowed)

    def _offered(self) -> tuple[list[int], list[float]] | None:
        """The candidates of this state and their log-probabilities; None where all are."""
        choices = self.env.choices
        if choices is None:
            return None
        count = int((choices.ids[0] != self.env.task.rules.nothing).sum())
        return choices.ids[0, :count].tolist(), choices.log_probs[0, :count].tolist()

    def _action(self, token: int) -> int:
        """The action that writes a token."""
        offered = self._offered()
        if offered is None:
            return token
        if token not in offered[0]:
            raise InvalidActionError(
                f"{self.labels(token)} is none of the {len(offered[0])} candidates"
            )
        return offered[0].index(token)

    def show(self) -> str:
        """Return the text so far, in colours if this is a terminal."""
        paid = self._past[-1][1] if self._past else None
        reward = paid if self.over or self.env.setup.scorer.pays_tokens else None
        frame = render.frame(self.env.task, self.env.state, reward, self.over)
        return (render.ansi if sys.stdout.isatty() else render.plain)(frame)

    def result(self) -> str:
        """Return the finished text and what it was paid."""
        total = float(np.sum([reward for _, reward in self._past]))
        lines = [f"text:   {visible(self.env.text)}", f"reward: {total:.6g}"]
        parts = self._info.get("reward_parts", {})
        if parts:
            named = ", ".join(f"{name} {value:.6g}" for name, value in parts.items())
            lines.append(f"parts:  {named}")
        if self._info.get("reward_fault"):
            lines.append("(the reward failed and was replaced)")
        return "\n".join(lines)


def _write_text(game: Game, input: Callable[[str], str], output: Callable[[str], Any]) -> bool:
    """Write one text to its end; False: the person stopped before."""
    while not game.over:
        output(game.show())
        menu = game.menu()
        output(menu.page(game.labels))
        if _turn(game, menu, input, output) == "quit":
            return False
    output(game.show())
    output(game.result())
    return True


def _turn(
    game: Game, menu: Menu, input: Callable[[str], str], output: Callable[[str], Any]
) -> Literal["changed", "quit"]:
    """Ask until the text changes or the person stops."""
    while True:
        verb, tokens, message = read(input("> "), menu, game.labels)
        if verb == "quit":
            return "quit"
        if verb == "say":
            output(message)
        elif verb == "list":
            menu.search(tokens)
            output(message)
            output(menu.page(game.labels))
        elif verb == "more":
            more = menu.shown < len(menu.listed)
            output(menu.page(game.labels) if more else "that was the whole list")
        elif verb == "undo":
            if game.undo():
                return "changed"
            output("nothing is written yet")
        else:
            try:
                game.write(*tokens)
            except TextenvError as error:
                output(f"nothing was written: {error}")
            else:
                return "changed"


def _again(game: Game, input: Callable[[str], str], output: Callable[[str], Any]) -> bool:
    """Ask whether to go on after the end: with another text, or with this one after :undo."""
    while True:
        answer = input("Another text? [y/n, or :undo] ").strip().lower()
        if answer in ("n", "no", ":quit"):
            return False
        if answer in ("y", "yes", ""):
            game.start()
            return True
        if answer == ":undo":
            return game.undo()
        output(f"type y, n or :undo, not {answer!r}")
