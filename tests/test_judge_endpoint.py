"""A judge behind an endpoint, against a server that fails, hangs and answers nonsense."""

from __future__ import annotations

import email.utils
import json
import math
import pickle
import socket
import threading
import time
import traceback

import pytest

from tests.judge_server import KEY, Server
from textenv.errors import RewardFaultError
from textenv.judges import (
    AnswerError,
    Cache,
    Endpoint,
    EndpointError,
    Judge,
    JudgeError,
    NotCachedError,
)
from textenv.judges.replies import log_probs_of
from textenv.judges.retrying import PassingFault
from textenv.rewards import Scorer, Texts, as_reward
from textenv.vocabulary import WordVocabulary

QUICK = {"wait": 0.01, "timeout": 1.0, "deadline": 30.0, "longest_wait": 1.0}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTENV_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def judge_at(server, template="sentiment", cache=False, **keywords):
    endpoint = Endpoint(server.address, "small", **{**QUICK, **keywords})
    return Judge(template, endpoint, cache=cache)


def script(*names):
    """Do these one after another, then the last for ever."""
    return lambda number, question: names[min(number, len(names) - 1)]


def test_the_answer_is_asked_for_and_scaled():
    with Server(script("right")) as server:
        judge = judge_at(server)
        assert judge.scores(["This film"], ["is {fine}."]) == [0.75]  # 4 on 1 … 5
    (body,) = server.bodies
    assert body["model"] == "small"
    assert body["temperature"] == 0
    assert body["max_tokens"] == 8
    assert body["logprobs"] is True
    assert body["top_logprobs"] == 20
    assert "\nThis film is {fine}.\n" in server.question(0)
    assert "Authorization" not in server.headers[0]
    assert judge.counts == {"asked": 1, "cached": 0, "failed": 0}
    assert judge.mass == 1.0


def test_probabilities_are_used_where_they_are_given():
    # 5 with ½ + ⅛ (two tokens are the same answer), 1 with ¼, "I" is no answer: shares 5/7, 2/7.
    likeliest = {"5": 0.5, " 5": 0.125, "1": 0.25, "I": 0.125}
    with Server(script("right"), answer="5", likeliest=likeliest) as server:
        judge = judge_at(server)
        assert judge.scores([""], ["x"])[0] == pytest.approx(5 / 7, abs=1e-12)
        assert judge.mass == pytest.approx(0.875)
    with Server(script("right"), answer="2", likeliest={"five": 0.9, "?": 0.1}) as server:
        assert judge_at(server).scores([""], ["x"]) == [0.25]  # none of them: the text counts


@pytest.mark.parametrize(
    "one",
    [
        {"token": None, "logprob": -1.0}, {"token": 5, "logprob": -1.0}, {"logprob": -1.0}, "5",
        {"token": "5", "logprob": -(10**400)}, {"token": "5", "logprob": math.nan},
        {"token": "5", "logprob": None}, {"token": "5", "logprob": 9.0}, None,
    ],
)  # fmt: skip
def test_probabilities_that_are_none_leave_the_text(one):
    choice = {"message": {"content": "5"}}
    choice["logprobs"] = {"content": [{"token": "5", "top_logprobs": [one]}]}
    body = json.dumps({"choices": [choice]}).encode()
    assert log_probs_of(body, ["1", "5"]).tolist() == [-math.inf, 0.0]


def test_logprobs_false_asks_for_none():
    with Server(script("right")) as server:
        judge_at(server, logprobs=False, request={"max_tokens": None, "seed": 3}).scores(
            [""], ["x"]
        )
    assert not {"logprobs", "top_logprobs", "max_tokens"} & server.bodies[0].keys()
    assert server.bodies[0]["seed"] == 3


@pytest.mark.parametrize(
    ("answer", "score"), [(" 2.", 0.25), ('"5"', 1.0), ("**1**", 0.0), ("3\n", 0.5)]
)
def test_what_may_stand_around_an_answer(answer, score):
    with Server(script("right"), answer=answer) as server:
        assert judge_at(server).scores([""], ["x"]) == [score]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nonsense", "answered 'As a language model I like both.', expected one of '1', '2'"),
        ("nothing", "gave no text (finish_reason 'length')"),
        ("none", "gave 0 choices, expected 1"),
        ("two", "gave 2 choices, expected 1"),
        ("number", "expected an object with a list of choices"),
        ("invalid", "expected JSON"),
        ("deep", "expected JSON"),
    ],
)
def test_no_answer_is_an_error_and_never_a_score(fault, words):
    with Server(script(fault)) as server:
        judge = judge_at(server)
        with pytest.raises(AnswerError) as caught:
            judge.scores([""], ["the text"])
    assert words in str(caught.value)
    assert "the text was 'the text'" in str(caught.value)
    assert len(server.bodies) == 1  # at temperature 0 it would say the same again
    assert judge.counts == {"asked": 0, "cached": 0, "failed": 1}


@pytest.mark.parametrize("fault", ["ill", "cut", "cut_late", "hang", "drip_headers", "drip_body"])
def test_passing_faults_are_tried_again(fault):
    with Server(script(fault, fault, "right")) as server:
        judge = judge_at(server)
        assert judge.scores([""], ["x"]) == [0.75]  # before the deadline; "hang" lasts for 60 s
    assert judge.backend.counts == {"requests": 3, "retries": 2, "failed": 0}


def test_retry_after_is_respected():
    with Server(script("busy", "right")) as server:
        assert judge_at(server).scores([""], ["x"]) == [0.75]
    assert server.times[1] - server.times[0] >= 0.3


def test_retry_after_may_be_a_date():
    later = email.utils.formatdate(time.time() + 3600, usegmt=True)
    assert 3590 < PassingFault("", retry_after=later).seconds <= 3600
    earlier = email.utils.formatdate(time.time() - 3600, usegmt=True)
    for header in (earlier, "soon", "-3", "nan", "inf", "", None):
        assert PassingFault("", retry_after=header).seconds == 0


def test_retry_after_is_capped():
    with Server(script("busy_for_hours", "right")) as server:
        assert judge_at(server, longest_wait=0.2).scores([""], ["x"]) == [0.75]
    assert 0.2 <= server.times[1] - server.times[0] < 60  # and not hours


@pytest.mark.parametrize("fault", ["ill", "hang", "drip_headers", "drip_body", "busy_for_hours"])
def test_a_question_ends_by_its_deadline(fault):
    with Server(script(fault)) as server:
        judge = judge_at(server, timeout=0.4, deadline=0.8, retries=99, longest_wait=0.3)
        begin = time.monotonic()
        with pytest.raises(JudgeError, match="tried"):
            judge.scores([""], ["x"])
        assert time.monotonic() - begin < 15  # 99 retries take at least twice as long
        assert judge.backend.counts["retries"] >= 1
        assert judge.backend.counts["requests"] == judge.backend.counts["retries"] + 1


def test_retries_are_counted_and_limited():
    with Server(script("ill")) as server:
        judge = judge_at(server, retries=3)
        with pytest.raises(JudgeError, match=r"replied 500.*tried 4 times"):
            judge.scores([""], ["x"])
    assert len(server.bodies) == 4
    assert judge.backend.counts == {"requests": 4, "retries": 3, "failed": 1}


def test_a_bad_request_is_not_tried_again():
    with Server(script("bad_request")) as server:
        with pytest.raises(JudgeError, match=r"replied 400.*context too long"):
            judge_at(server).scores([""], ["x"])
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("lost", "Is 'small' a model there"),
        ("elsewhere", "A redirect is not followed"),
        ("refused", "OPENAI_API_KEY, is not set"),
    ],
)
def test_an_endpoint_that_refuses_is_not_asked_on(fault, words):
    with Server(script(fault)) as server:
        judge = judge_at(server, concurrency=1)
        with pytest.raises(EndpointError, match=words):
            judge.scores([""] * 5, list("abcde"))
        assert len(server.bodies) == 1


def test_an_endpoint_that_is_not_there():
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        judge = Judge("sentiment", Endpoint(address, "small", **QUICK, retries=2), cache=False)
        with pytest.raises(EndpointError) as caught:
            judge.scores([""] * 100, [str(number) for number in range(100)])
    message = str(caught.value)
    assert f"{address} is not there" in message
    assert "Start the server, or correct the address" in message
    assert judge.backend.counts["requests"] <= 3 * judge.backend.concurrency


def test_no_more_requests_at_once_than_allowed():
    with Server(script("right"), slow=0.3) as server:
        judge = judge_at(server, concurrency=3)
        texts = [str(number) for number in range(12)]
        threads = [
            threading.Thread(target=judge.scores, args=([""] * 6, part))
            for part in (texts[:6], texts[6:])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.bodies) == 12
    assert server.most_at_once == 3


def test_the_same_text_is_asked_once_and_order_is_kept():
    grade = {"a": "1", "b": "3", "c": "5"}
    with Server(
        script("right"), answer=lambda question: grade[question.split("-----\n")[1][0]], slow=0.01
    ) as server:
        judge = judge_at(server)
        assert judge.scores([""] * 6, list("cabbac")) == [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]
        assert len(server.bodies) == 3
        assert judge.scores([""] * 2, list("bc")) == [0.5, 1.0]  # known as long as the judge lives
        assert len(server.bodies) == 3


def test_offline_replays_bit_by_bit(tmp_path):
    likeliest = {"4": 0.3, "5": 0.123456789, "1": 0.2}
    texts = ["one", "two", "three"]
    with Server(script("right"), likeliest=likeliest) as server:
        endpoint = Endpoint(server.address, "small", **QUICK)
        first = Judge("sentiment", endpoint, cache=tmp_path / "a.sqlite").scores([""] * 3, texts)
    again = Judge("sentiment", endpoint, cache=tmp_path / "a.sqlite", offline=True)
    assert again.scores([""] * 3, texts) == first  # the server is gone
    assert again.counts == {"asked": 0, "cached": 3, "failed": 0}
    with pytest.raises(NotCachedError, match=r"'four' \(1 of 2 questions"):
        again.scores(["", ""], ["one", "four"])
    other = Judge({"text": "{text}?", "answers": {"1": 1, "4": 4}, "mode": "scale"}, endpoint,
                  cache=tmp_path / "a.sqlite", offline=True)  # fmt: skip
    with pytest.raises(NotCachedError):  # another template is another question
        other.scores([""], ["one"])
    model = Endpoint(server.address, "large", **QUICK)
    with pytest.raises(NotCachedError):  # another model gives another answer
        Judge("sentiment", model, cache=tmp_path / "a.sqlite", offline=True).scores([""], ["one"])


def test_what_was_answered_before_a_failure_is_kept(tmp_path):
    def behave(_number, question):
        return "nonsense" if "odd" in question else "right"

    with Server(behave) as server:
        judge = judge_at(server, cache=tmp_path / "a.sqlite")
        with pytest.raises(AnswerError, match=r"'odd'.*1 of 3 questions failed"):
            judge.scores([""] * 3, ["a", "odd", "b"])
    assert Cache(tmp_path / "a.sqlite").count() == 2


def test_the_key_is_sent_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    path = tmp_path / "a.sqlite"
    with Server(script("right")) as server:
        reward = as_reward(
            {"name": "judge", "address": server.address, "model": "small", "cache": str(path),
             "endpoint": QUICK}
        )  # fmt: skip
        reward([""], ["x"])
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in str(reward.spec())
        assert KEY.encode() not in pickle.dumps(reward.judge.backend)
    for file in tmp_path.glob("a.sqlite*"):
        assert KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("fault", "words"), [("refused", "is set, but not accepted"), ("babble", "BadStatusLine")]
)
def test_a_server_that_repeats_the_key(monkeypatch, fault, words):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(script(fault)) as server:
        judge = judge_at(server, retries=1)
        with pytest.raises(JudgeError, match=words) as caught:
            judge.scores([""], ["x"])
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert "(the key)" in shown


def test_a_changed_key_is_read_at_the_next_question(monkeypatch):
    with Server(script("right")) as server:
        judge = judge_at(server, key_variable="MY_KEY")
        for key, text in (("one", "a"), ("two", "b")):
            monkeypatch.setenv("MY_KEY", key)
            judge.scores([""], [text])
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer one", "Bearer two"]


def test_a_key_does_not_travel_in_the_open(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge = Judge("sentiment", Endpoint("http://judge.invalid/v1", "small", **QUICK), cache=False)
    with pytest.raises(EndpointError, match="in the open: use https://") as caught:
        judge.scores([""], ["x"])
    assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "two words " + KEY)
    with pytest.raises(EndpointError, match="holds no key") as caught:
        judge.scores([""], ["x"])
    assert KEY not in str(caught.value)


def test_a_proxy_is_not_used_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with Server(script("right")) as server:
        assert judge_at(server).scores([""], ["x"]) == [0.75]


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000",
        "ftp://a/v1",
        "http://",
        "http://a b/v1",
        7,
        "http://u:p@a/v1",
        "http://a?k=1",
        "http://[::1",
        "http://localhost:99999/v1",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="address"):
        Endpoint(address, "small")


def test_a_template_for_plain_models_is_refused():
    with Server(script("right")) as server, pytest.raises(ValueError, match="goes on from a text"):
        judge_at(server, template="continuation").scores([""], ["x"])


def test_both_orders_of_a_pair_are_asked():
    with Server(script("right"), answer="A") as server:  # whatever stands first
        judge = judge_at(server, template="more_positive")
        assert judge.compare([""], ["one"], ["two"]) == ["tie"]
        assert judge.position_bias([""], ["one"], ["two"]) == (1.0, 1.0, 1)
    shown = sorted(server.question(number) for number in range(2))
    assert len(server.bodies) == 2
    assert "Text A: one" in shown[0]
    assert "Text B: two" in shown[0]
    assert "Text A: two" in shown[1]


def faulty(server, **keywords):
    reward = as_reward(
        {"name": "judge", "address": server.address, "model": "small", "cache": False,
         "endpoint": {**QUICK, "retries": 2}}
    )  # fmt: skip
    return Scorer(reward, WordVocabulary(["a"]), end_token=None, **keywords)


@pytest.mark.parametrize("fault", ["nonsense", "ill"])
def test_the_rewards_own_fault_policies(fault):
    texts = Texts([""] * 4, ["a", "odd", "b", "odder"], [[0]] * 4, {})

    def behave(_number, question):
        return fault if "odd" in question else "right"

    with Server(behave) as server:
        with pytest.raises(RewardFaultError, match="'odd'"):
            faulty(server).finish(texts, [False] * 4)
        scorer = faulty(server, fault="penalise", fault_reward=-1.0)
        asked = len(server.bodies)
        scores = scorer.finish(texts, [False] * 4)
        assert scores.rewards.tolist() == [0.75, -1.0, 0.75, -1.0]
        assert scorer.counts["faults"] == 2
        # The Scorer's second look, text by text, asks nobody again.
        each = 3 if fault == "ill" else 1
        assert len(server.bodies) - asked == 2 + 2 * each
        scores = faulty(server, fault="skip").finish(texts, [False] * 4)
        assert scores.rewards.tolist() == [0.75, 0.0, 0.75, 0.0]
        assert scores.faults.tolist() == [False, True, False, True]


def test_what_failed_is_asked_again_by_the_next_batch():
    with Server(script("nonsense", "nonsense", "right")) as server:
        judge = judge_at(server, concurrency=1)
        with pytest.raises(AnswerError):
            judge.scores(["", ""], ["a", "b"])
        assert judge.scores(["", ""], ["a", "b"]) == [0.75, 0.75]


def test_a_reply_without_probabilities_is_certain():
    with Server(script("right"), answer="B") as server:
        judge = judge_at(server, template="more_positive")
        odds = judge.odds([""], ["one"], ["two"])
    assert odds.shown_first[0] == -20.0
    assert odds.shown_second[0] == 20.0
    assert math.isfinite(odds.mean[0])
