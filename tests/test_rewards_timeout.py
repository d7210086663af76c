"""Rewards with a timeout: a worker process that is killed and replaced."""

import copy
import os
import pickle
import subprocess
import sys
import time

import pytest

from textenv.errors import MissingExtraError, RewardFaultError
from textenv.rewards import Scorer, Texts, as_reward, length, register
from textenv.rewards.registry import _FACTORIES
from textenv.vocabulary import WordVocabulary

VOCABULARY = WordVocabulary(["a"])
TIMEOUT = 1.5  # seconds; a busy machine may be slow, and is not to be mistaken for a hang


def behave(completions):
    """Do what the text says, and pay with the number of the process."""
    if "hang" in completions:
        time.sleep(100)
    if "raise" in completions:
        raise AwkwardError("oh", 3)
    if "die" in completions:
        os._exit(7)
    if "exit" in completions:
        sys.exit("enough")
    if "nan" in completions:
        return [float("nan")] * len(completions)
    return [float(os.getpid())] * len(completions)


class AwkwardError(Exception):
    """An exception that pickle cannot bring back."""

    def __init__(self, text, number):
        super().__init__(f"{text} {number}")


def texts_of(*written):
    return Texts([""] * len(written), list(written), [[0]] * len(written), {})


@pytest.fixture
def scorer_with():
    scorers = []

    def make(reward=behave, **keywords):
        scorers.append(Scorer(reward, VOCABULARY, end_token=None, timeout=TIMEOUT, **keywords))
        return scorers[-1]

    yield make
    for scorer in scorers:
        scorer.close()


def is_alive(process):
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    return True


def test_hanging_reward_is_killed_and_replaced(scorer_with):
    scorer = scorer_with()
    first = scorer.finish(texts_of("ok"), [True]).rewards[0]
    assert first != os.getpid()
    with pytest.raises(RewardFaultError, match=r"'behave' ran longer than 1\.5 seconds.*'hang'"):
        scorer.finish(texts_of("hang"), [True])
    assert not is_alive(first)
    second = scorer.finish(texts_of("ok"), [True]).rewards[0]
    assert second not in (first, os.getpid())
    scorer.close()
    assert not is_alive(second)
    third = scorer.finish(texts_of("ok"), [True]).rewards[0]  # a closed one starts again
    assert third != second


def test_faults_in_the_worker_are_raised_with_their_reason(scorer_with):
    scorer = scorer_with()
    for text, reason in {
        "raise": "raised AwkwardError: oh 3",
        "exit": "raised SystemExit: enough",
        "nan": "returned nan",
        "die": "Abnormal termination",
    }.items():
        with pytest.raises(RewardFaultError, match=reason) as caught:
            scorer.finish(texts_of(text), [True])
        if text == "raise":
            assert "in behave" in caught.value.__cause__.__notes__[0]
    assert scorer.finish(texts_of("ok"), [True]).rewards[0] > 0


@pytest.mark.parametrize("policy", [{"fault": "penalise", "fault_reward": -3.0}, {"fault": "skip"}])
def test_only_the_text_that_hangs_is_faulty(scorer_with, policy):
    scorer = scorer_with(as_reward(behave) + length(), **policy)
    scores = scorer.finish(texts_of("ok", "hang", "ok"), [True] * 3)
    assert scores.faults.tolist() == [False, True, False]
    assert scores.rewards[1] == policy.get("fault_reward", 0.0)
    assert scores.rewards[0] > 1
    assert scorer.counts["faults"] == 1


def test_copies_have_a_worker_of_their_own(scorer_with):
    scorer = scorer_with()
    process = scorer.finish(texts_of("ok"), [True]).rewards[0]
    twin = pickle.loads(pickle.dumps(copy.deepcopy(scorer)))
    other = twin.finish(texts_of("ok"), [True]).rewards[0]
    assert other != process
    del twin  # takes its worker with it
    assert not is_alive(other)
    assert scorer.finish(texts_of("ok"), [True]).rewards[0] == process


def test_what_cannot_be_imported_is_refused():
    def closure(completions):
        return [0.0]

    for reward in (closure, length() + closure, lambda completions: [0.0]):
        with pytest.raises(ValueError, match=r"in another process, which must import it.*closure"):
            Scorer(reward, VOCABULARY, end_token=None, timeout=1.0)
    register("closure", closure)
    try:
        with pytest.raises(ValueError, match="which cannot import"):
            Scorer("closure", VOCABULARY, end_token=None, timeout=1.0)
    finally:
        del _FACTORIES["closure"]


def test_names_that_the_caller_registered_reach_the_worker(scorer_with):
    register("behave", behave)
    try:
        assert scorer_with("behave").finish(texts_of("ok"), [True]).rewards[0] > 0
    finally:
        del _FACTORIES["behave"]


def test_without_pebble(monkeypatch):
    monkeypatch.setitem(sys.modules, "pebble", None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[text\]"'):
        Scorer("length", VOCABULARY, end_token=None, timeout=1.0)


def test_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from textenv.rewards import Scorer, Texts\n"
        "from textenv.vocabulary import WordVocabulary\n"
        "scorer = Scorer('length', WordVocabulary(['a']), end_token=None, timeout=1.0)\n"
        "scorer.finish(Texts([''], ['a'], [[0]], {}), [True])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'must stand under `if __name__ == "__main__":`' in done.stderr
