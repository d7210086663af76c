"""Showing a text while it is written: as a string, live in the terminal, or as a picture.

A `Frame` says what there is to see; the three renderers say how. Pictures need Pillow, which is
imported only by them (`drawing.py`).
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.asking import Choices
from textenv.errors import MissingExtraError
from textenv.layout import Piece, cell_width, token_label, visible, wrap
from textenv.task import Task

FRAMES_PER_SECOND = 4  # `TextEnv.metadata["render_fps"]`; a terminal is not rewritten more often
IN_PICTURE = 4  # so many candidates fit below a picture's text
BRACKETS = ("[", "]")  # around the last token, so that it is marked without colours too
ESCAPES = {
    "prompt": "\x1b[2m",  # dim
    "last": "\x1b[7m",  # reverse video
    "gain": "\x1b[32m",  # green
    "loss": "\x1b[31m",  # red
}


class Frame(NamedTuple):
    """What there is to see of one state. `before + last` is the text, the end token left out.

    Attributes:
        prompt: The prompt's text.
        before: What was written before the last token.
        last: What the last token added; "" at the start and for an end token.
        reward: What the last step paid; None where it is not known (yet).
        finished: Whether the text has ended.
        gap: A blank, where the vocabulary puts one between the prompt and the text.
        candidates: The tokens that may be written next, with their probabilities, where the
            environment offers some in particular.
    """

    prompt: str
    before: str
    last: str
    reward: float | None
    finished: bool
    gap: str = ""
    candidates: tuple[tuple[str, float], ...] = ()


def frame(
    task: Task,
    state: mdp.State,
    reward: float | None,
    finished: bool,
    choices: Choices | None = None,
) -> Frame:
    """Describe one state.

    Args:
        task: Its task.
        state: A single state, tokens int64 [P + T].
        reward: What the last step paid, or None.
        finished: Whether the text has ended.
        choices: What this one state offers, or None.
    """
    rules, decode = task.rules, task.vocabulary.decode
    ids = mdp.text_ids(rules, state.tokens)
    prompt_ids = mdp.prompt_ids(rules, state.tokens)
    index = int(state.prompt_index)
    prompt = task.prompts[index] if index >= 0 else decode(prompt_ids)
    text = before = decode(ids)
    if len(ids) == state.length and ids:  # the last token is no end token
        # Tokens that are parts of a character change the text before them: é is two bytes.
        before = _common_start(decode(ids[:-1]), text)
        if before == text and text.endswith("\ufffd"):
            before = text[:-1]
    gap = _gap(prompt, text, decode([*prompt_ids, *ids]))
    candidates = () if choices is None else tuple(_named(task, choices))
    return Frame(prompt, before, text[len(before) :], reward, finished, gap, candidates)


def ansi(frame: Frame) -> str:
    """Return the text for a terminal: prompt dim, last token marked, reward and end if known."""
    return _painted(_line(frame))


def plain(frame: Frame) -> str:
    """Return what `ansi` does without escape codes."""
    return "".join(text for text, _ in _line(frame))


def human(frame: Frame) -> None:
    """Show the text on standard output, where the frame before it is overwritten if it can be."""
    _live(frame)


def picture(frame: Frame) -> npt.NDArray[np.uint8]:
    """Draw the text: uint8 [360, 640, 3].

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from textenv import drawing
    except ImportError as error:
        raise MissingExtraError("PIL", 'render_mode="rgb_array"') from error
    return drawing.draw(text_pieces(frame), [*status(frame), *offered(frame)[:IN_PICTURE]])


RENDERERS: dict[str, Callable[[Frame], Any]] = {
    "ansi": ansi,
    "human": human,
    "rgb_array": picture,
}


def text_pieces(frame: Frame, brackets: tuple[str, str] = ("", "")) -> list[Piece]:
    """Return prompt and text in styles; blanks around the last token are not marked."""
    last = visible(frame.last)
    marked = last.strip()
    lead, _, tail = last.partition(marked) if marked else ("", "", "")
    if last and not marked:  # a token of blanks: mark them, and show a line's end
        marked, tail = last.replace("\n", "↵"), "\n" * ("\n" in last)
    opening, closing = brackets if marked else ("", "")
    pieces = [
        Piece(visible(frame.prompt + frame.gap), "prompt"),
        Piece(visible(frame.before) + lead, "text"),
        Piece(opening + marked + closing, "last"),
        Piece(tail, "text"),
    ]
    return [piece for piece in pieces if piece.text]


def status(frame: Frame) -> list[Piece]:
    """Return what is known of the end and the reward."""
    known = [Piece("end", "end")] if frame.finished else []
    if frame.reward is not None:
        style = "gain" if frame.reward > 0 else "loss" if frame.reward < 0 else "nil"
        known.append(Piece(f"reward {frame.reward:.4g}", style))
    return known


def offered(frame: Frame) -> list[Piece]:
    """Return the candidates, numbered from 0 as the actions are, with their probabilities."""
    return [
        Piece(f"{number} {name} {100 * probability:.1f} %", "prompt")
        for number, (name, probability) in enumerate(frame.candidates)
    ]


class Live:
    """Shows frames on standard output; in a terminal each overwrites the one before.

    A text that has ended stays and the next one starts below it. What other code prints between
    two frames of one text may be overwritten.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._shown: Frame | None = None
        self._lines = 0
        self._time = 0.0

    def __call__(self, frame: Frame) -> None:
        """Show a frame, unless it is the one that is shown already."""
        if sys.stdout is not self._stream:  # what another stream shows is not shown here
            self._stream, self._shown, self._lines = sys.stdout, None, 0
        if frame == self._shown:
            return
        if sys.stdout.isatty():
            sys.stdout.write(self._rewrite(frame, *shutil.get_terminal_size()))
            self._wait()
        else:
            sys.stdout.write(plain(frame) + "\n")
        sys.stdout.flush()
        self._shown = frame

    def _rewrite(self, frame: Frame, columns: int, rows: int) -> str:
        """Return what to send to a terminal: go back to where this text starts, erase, write."""
        # The last column stays free: some terminals start a line when it is written.
        lines = wrap(_line(frame), max(columns - 1, 1), cell_width)
        lines = lines[-max(rows - 1, 1) :]  # what has scrolled away cannot be rewritten
        up = f"\x1b[{self._lines}A" if self._lines and self._continues(frame) else ""
        self._lines = len(lines)
        return up + "\r\x1b[J" + "".join(_painted(line) + "\n" for line in lines)

    def _continues(self, frame: Frame) -> bool:
        shown = self._shown
        started = bool(frame.before or frame.last or frame.finished)
        return shown is not None and started and not shown.finished and shown.prompt == frame.prompt

    def _wait(self) -> None:
        time.sleep(max(0.0, self._time + 1 / FRAMES_PER_SECOND - time.monotonic()))
        self._time = time.monotonic()


_live = Live()


def _line(frame: Frame) -> list[Piece]:
    pieces = text_pieces(frame, BRACKETS)
    if not frame.finished and not frame.before and not frame.last:
        pieces.append(Piece("…" if not pieces or frame.gap else " …", "text"))
    for known in status(frame):
        pieces += [Piece(" | ", "prompt"), known]
    for number, candidate in enumerate(offered(frame)):
        pieces += [Piece("   " if number else "\n", "text"), candidate]
    return pieces


def _named(task: Task, choices: Choices) -> Iterator[tuple[str, float]]:
    for token, log_prob in zip(choices.ids[0].tolist(), choices.log_probs[0], strict=True):
        if token != task.rules.nothing:
            yield token_label(task.vocabulary, token), math.exp(log_prob)


def _painted(pieces: Iterable[Piece]) -> str:
    painted = ""
    for text, style in pieces:
        escape = ESCAPES.get(style, "")
        painted += f"{escape}{text}\x1b[0m" if escape and text else text
    return painted


def _gap(prompt: str, text: str, whole: str) -> str:
    """The blank between prompt and text, if decoding both together shows one."""
    if not prompt or not text or not whole.endswith(text):
        return ""
    between = whole[: len(whole) - len(text)]
    return " " if between[-1:].isspace() and not prompt[-1].isspace() else ""


def _common_start(left: str, right: str) -> str:
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    return left[:same]
