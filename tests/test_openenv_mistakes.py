"""What a served environment refuses: mistakes reach the client and end nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

pytest.importorskip("openenv")

from tests.serving import TEXTS, TOY, connected
from textenv.interop.openenv import Server


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"tokens": 4}, r"0 … 3, got 4 \(VALIDATION_ERROR\)"),
        ({"tokens": [0, 9]}, "0 … 3, got 9"),
        ({"tokens": "0"}, "got '0'"),
        ({"tokens": 0.0}, "got 0.0"),
        ({"tokens": True}, "got True"),
        ({"tokens": []}, "at least one token id"),
        ({"text": "我"}, "the field 'tokens' and no other"),
        ({"tokens": 0, "text": "我"}, "the field 'tokens' and no other"),
        ({}, "the field 'tokens' and no other"),
    ],
)
def test_bad_actions(client, action, said):
    client.reset(seed=0)
    with pytest.raises(RuntimeError, match=said):
        client.step(action)
    assert client.state()["text"] == ""
    assert client.step({"tokens": [0, 1, 2, 3]}).reward == 1.0


def test_refused_steps_do_not_count_towards_a_limit_of_steps():
    """The first 我 of the refused action is written, and taken back with what was counted."""
    keywords = {"blocklist": ["我我"], "max_episode_steps": 3}
    with Server(TOY, **keywords) as server, connected(server.address) as client:
        client.reset()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="not allowed here by the blocklist"):
                client.step({"tokens": [0, 0]})
        result = client.step({"tokens": [0, 1, 0, 1]})
        assert result.observation["tokens"] == [0, 1, 0]
        assert result.observation["metadata"] == {"truncated": True}


def test_steps_before_the_start_and_after_the_end(client):
    with pytest.raises(RuntimeError, match="before"):
        client.step({"tokens": 0})
    assert client.state() == {"episode_id": None, "step_count": 0, "prompt": "", "text": ""}
    client.reset()
    assert client.step({"tokens": 3}).done
    with pytest.raises(RuntimeError, match=r"after the end of the episode: call reset"):
        client.step({"tokens": 0})
    assert client.reset().observation["tokens"] == []


def test_fragments_of_the_wrong_shape():
    with Server(TEXTS, action="fragments:2") as server, connected(server.address) as client:
        client.reset(seed=0)
        for wrong in ([1], [[1], [2, 3]], [1.0, 2.0], None):
            with pytest.raises(RuntimeError, match=r"expected .*VALIDATION_ERROR"):
                client.step({"tokens": wrong})
        assert client.step({"tokens": [1, 2]}).observation["tokens"] == [1, 2]


def test_a_text_that_a_client_has_read_as_json():
    keywords = {"task": "gcd", "size": 1, "action": "completion"}
    with (
        Server("textenv/ReasoningGym-v0", **keywords) as server,
        connected(server.address) as client,
    ):
        for value, text in ((12, "12"), (-0.5, "-0.5"), (True, "true"), (None, "null")):
            client.reset(seed=0)
            assert client.step({"text": value}).observation["text"] == text
        client.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"expected a text.*VALIDATION_ERROR"):
            client.step({"text": ["12"]})


def test_no_step_after_a_wrapper_ended_the_episode():
    with Server(TOY, max_episode_steps=2) as server, connected(server.address) as client:
        client.reset()
        result = client.step({"tokens": [0, 1, 2, 3]})
        assert (result.observation["text"], result.done) == ("我爱", True)
        assert result.metadata == {"truncated": True}
        with pytest.raises(RuntimeError, match="after the end"):
            client.step({"tokens": 2})
        client.reset()
        assert not client.step({"tokens": 0}).done


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts": "x"}, "expected options among"),
        ({"prompt_index": 5}, "prompt_index lies in 0 … 0"),
        ({"split": "test"}, "one split, 'train'"),
        ({"prefix": "。"}, "already finished"),
    ],
)
def test_bad_starts(client, options, said):
    with pytest.raises(RuntimeError, match=said):
        client.reset(**options)
    assert client.reset().observation["tokens"] == []


def broken(prompts, completions, **columns):
    raise ZeroDivisionError("oh")


def test_a_reward_that_fails_and_a_text_that_cannot_be_written():
    with (
        Server(TOY, reward="tests.test_openenv_mistakes:broken") as server,
        connected(server.address) as client,
    ):
        client.reset()
        client.step({"tokens": [0]})
        with pytest.raises(RuntimeError, match=r"'broken'.*ZeroDivisionError"):
            client.step({"tokens": [1, 2, 3]})
        assert client.state()["text"] == "我"  # none of the three
    with Server(TOY, action="strings") as server, connected(server.address) as client:
        client.reset()
        with pytest.raises(RuntimeError, match="cannot be written: '他'"):
            client.step({"text": "我他"})
        assert client.step({"text": "我爱你。"}).reward == 1.0


def test_plain_requests(served_toy):
    def post(path, body):
        data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(served_toy.address + path, data, head)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    assert post("/reset", {"seed": 0})["observation"]["tokens"] == []
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        post("/step", {"action": {"tokens": 0}})
    assert "episodes need OpenEnv's client" in json.load(refused.value)["detail"]
    with urllib.request.urlopen(served_toy.address + "/schema") as answer:
        schema = json.load(answer)["action"]
    assert set(schema["properties"]) == {"tokens", "metadata"}
    assert schema["required"] == ["tokens"]  # the one that verifiers fills with a reply
    # Its tasks.
    with urllib.request.urlopen(served_toy.address + "/list_environments") as answer:
        assert json.load(answer) == ["ILoveYou-v0"]
    assert post("/ILoveYou-v0/num_tasks", {"split": "train"}) == {"num_tasks": 1}
    task = {"split": "train", "index": 0}
    assert post("/ILoveYou-v0/task", task)["task"] == {"index": 0, "prompt": ""}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post("/ILoveYou-v0/task", {"split": "train", "index": 1})
