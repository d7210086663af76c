"""Served over OpenEnv's protocol and driven by its own client: the same episodes as here."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("openenv")

from openenv.core.generic_client import GenericEnvClient

import textenv
from textenv.actions import AllTokens, Candidates, Fragments
from textenv.errors import MissingExtraError, TextenvError
from textenv.interop.openenv import ServedEnvironment, Server, TextEnvClient
from textenv.interop.openenv.environment import plain
from textenv.testing.choosing import choose_action
from textenv_agents.cli import main
from textenv_agents.serve import ServeConfig

TOY, TEXTS = "textenv/ILoveYou-v0", "textenv/WordPreference-v0"


def connected(server):
    return GenericEnvClient(base_url=server.address).sync()


def message(env, action):
    """An action of the local environment as the client sends it."""
    kind = env.setup.action
    if isinstance(kind, Candidates):
        return {"candidate": int(action)}
    if isinstance(kind, AllTokens | Fragments):
        return {"tokens": np.asarray(action).tolist()}
    return {"text": action}


@pytest.fixture(scope="module")
def toy():
    with Server(TOY) as server:
        yield server


@pytest.fixture
def client(toy):
    with connected(toy) as client:
        yield client


# The same episodes.


@pytest.mark.parametrize(
    ("environment_id", "keywords"),
    [
        (TOY, {}),
        (TEXTS, {"prompt_length": 3, "mask": "info", "info_text": True}),
        (TEXTS, {"prompt_length": 2, "action": "fragments:3", "mask": "observation"}),
        (TEXTS, {"action": "strings", "observation": "text", "max_tokens": 4}),
        (TEXTS, {"action": "completion", "prompt_length": 1, "reward": ["length", "sentiment"]}),
        ("textenv/Sentiment-v0", {"action": "candidates:4", "max_tokens": 4}),
        ("textenv/Sentiment-v0", {"observation": "probabilities:3", "max_tokens": 3}),
        ("textenv/ToyTranslation-v0", {"max_tokens": 5, "mask": "method"}),
        ("textenv/ReasoningGym-v0", {"task": "gcd", "size": 5, "action": "completion"}),
    ],
    ids=str,
)
def test_episodes_are_those_of_the_local_environment(environment_id, keywords):
    local = gym.make(environment_id, **keywords).unwrapped
    generator = np.random.default_rng(0)
    with Server(environment_id, **keywords) as server, connected(server) as client:
        for seed in range(6):
            seen, info = local.reset(seed=seed)
            result = client.reset(seed=seed)
            assert result.reward is None
            compare(local, result, seen, info, None, False)
            over = False
            while not over:
                action = choose_action(local, generator)
                seen, reward, over, _, info = local.step(action)
                compare(local, client.step(message(local, action)), seen, info, reward, over)
            assert client.state()["text"] == local.text


def compare(local, result, seen, info, reward, over):
    got, rules = result.observation, local.task.rules
    assert (result.reward, result.done) == (reward, over)
    assert (got["prompt"], got["text"]) == (local.prompt, local.text)
    assert got["tokens"] == local.state.tokens[rules.prompt_length :][: local.state.length].tolist()
    if got["prompt_tokens"] is not None:
        prompt = local.state.tokens[: rules.prompt_length]
        assert got["prompt_tokens"] == prompt[prompt != rules.nothing].tolist()
    mask = {"info": info.get("action_mask"), "method": None, "observation": None, None: None}
    if local.setup.mask == "observation":
        assert got["action_mask"] == seen["action_mask"].tolist()
        seen = seen["observation"]
    elif local.setup.mask == "method":
        assert got["action_mask"] == local.action_masks().astype(int).tolist()
    else:
        expected = mask[local.setup.mask]
        assert got["action_mask"] == (None if expected is None else expected.tolist())
    if "candidates" in info:
        assert got["candidates"] == info["candidates"].tolist()
        assert got["candidate_log_probs"] == pytest.approx(info["candidate_log_probs"].tolist())
    if not isinstance(local.setup.observation, textenv.Tokens):
        probabilities = isinstance(local.setup.observation, textenv.Probabilities)
        assert got["seen"] == (pytest.approx(plain(seen)) if not probabilities else got["seen"])
        if probabilities:
            assert got["seen"]["ids"] == seen["ids"].tolist()
            assert got["seen"]["probabilities"] == pytest.approx(seen["probabilities"].tolist())
    else:
        assert got["seen"] is None
    assert (result.metadata or {}) == {k: v for k, v in info.items() if k == "reward_parts"}


def test_several_tokens_in_one_message_pay_their_sum():
    local = gym.make(TEXTS, prompt_length=2).unwrapped
    with Server(TEXTS, prompt_length=2) as server, TextEnvClient(server.address).sync() as client:
        for seed in range(5):
            ids = np.random.default_rng(seed).integers(local.task.rules.vocabulary_size, size=16)
            local.reset(seed=seed)
            client.reset(seed=seed)
            total, over, written = 0.0, False, []
            for token in ids.tolist():
                if not over:
                    _, reward, over, _, _ = local.step(token)
                    total, written = total + reward, [*written, token]
            result = client.step(ids)
            assert result.observation.tokens == written
            assert (result.reward, result.done) == (total, True)
            assert client.state().step_count == 1


def test_where_an_episode_starts(toy):
    with Server(TEXTS, prompt_length=2) as server, connected(server) as client:
        here = {"prompt": "good day", "prefix": "the tree"}
        result = client.reset(episode_id="mine", **here)
        assert (result.observation["prompt"], result.observation["text"]) == tuple(here.values())
        assert client.state() == {"episode_id": "mine", "step_count": 0,
                                  "prompt": "good day", "text": "the tree"}  # fmt: skip
        local = gym.make(TEXTS, prompt_length=2).unwrapped
        for start in ({"prompt_index": 7}, {"split": "train", "index": 7}):
            assert client.reset(**start).observation["prompt"] == local.task.prompts[7]


# Several at once.


def test_sessions_have_environments_of_their_own_and_one_model():
    with Server("textenv/Sentiment-v0", action="candidates:3", max_tokens=5) as server:
        told = {}

        def play(seed):
            with connected(server) as client:
                result = client.reset(seed=seed)
                for step in range(5):
                    if not result.done:
                        result = client.step({"candidate": (seed + step) % 3})
                told[seed] = result.observation["prompt"], result.observation["text"]

        threads = [threading.Thread(target=play, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    env = gym.make("textenv/Sentiment-v0", action="candidates:3", max_tokens=5).unwrapped
    for seed in range(6):
        env.reset(seed=seed)
        over = False
        for step in range(5):
            if not over:
                over = env.step((seed + step) % 3)[2]
        assert told[seed] == (env.prompt, env.text)


def test_a_session_too_many_is_told_so_and_leaves_room_again():
    with Server(TOY, sessions=1) as server:
        with connected(server) as first:
            first.reset()
            second = connected(server)
            with pytest.raises(RuntimeError, match="capacity"):
                second.reset()
            second.close()
            assert first.step({"tokens": 0}).observation["tokens"] == [0]
        with connected(server) as third:
            assert third.reset().observation["tokens"] == []


def test_copies_share_their_model():
    env = gym.make("textenv/Sentiment-v0", action="candidates:3")
    from textenv.interop.openenv.server import application

    app = application("textenv/Sentiment-v0", action="candidates:3", lm=env.unwrapped.lm)
    assert app.title
    served = ServedEnvironment(env)
    assert served.SUPPORTS_CONCURRENT_SESSIONS


# Mistakes reach the client and end nothing.


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
    with Server(TEXTS, action="fragments:2") as server, connected(server) as client:
        client.reset(seed=0)
        for wrong in ([1], [[1], [2, 3]], [1.0, 2.0], None):
            with pytest.raises(RuntimeError, match=r"expected .*VALIDATION_ERROR"):
                client.step({"tokens": wrong})
        assert client.step({"tokens": [1, 2]}).observation["tokens"] == [1, 2]


def test_a_text_that_a_client_has_read_as_json():
    keywords = {"task": "gcd", "size": 1, "action": "completion"}
    with Server("textenv/ReasoningGym-v0", **keywords) as server, connected(server) as client:
        for value, text in ((12, "12"), (-0.5, "-0.5"), (True, "true"), (None, "null")):
            client.reset(seed=0)
            assert client.step({"text": value}).observation["text"] == text
        client.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"expected a text.*VALIDATION_ERROR"):
            client.step({"text": ["12"]})


def test_no_step_after_a_wrapper_ended_the_episode():
    with Server(TOY, max_episode_steps=2) as server, connected(server) as client:
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
    with Server(TOY, reward="tests.test_openenv:broken") as server, connected(server) as client:
        client.reset()
        client.step({"tokens": [0]})
        with pytest.raises(RuntimeError, match=r"'broken'.*ZeroDivisionError"):
            client.step({"tokens": [1, 2, 3]})
        assert client.state()["text"] == "我"  # none of the three
    with Server(TOY, action="strings") as server, connected(server) as client:
        client.reset()
        with pytest.raises(RuntimeError, match="cannot be written: '他'"):
            client.step({"text": "我他"})
        assert client.step({"text": "我爱你。"}).reward == 1.0


def test_plain_requests(toy):
    def post(path, body):
        data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(toy.address + path, data, head)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    assert post("/reset", {"seed": 0})["observation"]["tokens"] == []
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        post("/step", {"action": {"tokens": 0}})
    assert "episodes need OpenEnv's client" in json.load(refused.value)["detail"]
    with urllib.request.urlopen(toy.address + "/schema") as answer:
        schema = json.load(answer)["action"]
    assert set(schema["properties"]) == {"tokens", "metadata"}
    assert schema["required"] == ["tokens"]  # the one that verifiers fills with a reply
    # Its tasks.
    with urllib.request.urlopen(toy.address + "/list_environments") as answer:
        assert json.load(answer) == ["ILoveYou-v0"]
    assert post("/ILoveYou-v0/num_tasks", {"split": "train"}) == {"num_tasks": 1}
    task = {"split": "train", "index": 0}
    assert post("/ILoveYou-v0/task", task)["task"] == {"index": 0, "prompt": ""}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post("/ILoveYou-v0/task", {"split": "train", "index": 1})


# Learning through it.


def test_the_best_of_n_and_a_policy_gradient(client):
    """Best of n is better than one; REINFORCE on a table finds 我爱你。 through the client."""
    generator = np.random.default_rng(0)

    def episode(logits):
        client.reset()
        taken, last, done, reward = [], 4, False, 0.0
        while not done:
            weights = np.exp(logits[last] - logits[last].max())
            chosen = int(generator.choice(4, p=weights / weights.sum()))
            result = client.step({"tokens": chosen})
            taken.append((last, chosen, weights / weights.sum()))
            last, done, reward = chosen, result.done, result.reward
        return taken, reward

    start = np.log(np.full((5, 4), 0.25))
    start[[4, 0, 1, 2], [0, 1, 2, 3]] += 1.0  # each right word: e / (e + 3) = 0.475
    rewards = np.array([episode(start)[1] for _ in range(160)])
    # 0.475⁴ = 0.051 alone, 1 − 0.949⁸ = 0.34 for the best of eight.
    assert rewards.mean() < 0.15 < rewards.reshape(20, 8).max(axis=1).mean()

    logits = start.copy()
    for _ in range(400):
        taken, reward = episode(logits)
        for last, chosen, probabilities in taken:
            logits[last] += 2.0 * (reward - 0.05) * (np.eye(4)[chosen] - probabilities)
    assert np.mean([episode(logits)[1] for _ in range(30)]) >= 0.9


# The command.


def test_the_command_serves_until_ctrl_c():
    command = [sys.executable, "-W", "error", "-m", "textenv_agents.cli", "serve", TEXTS]
    command += ["--port", "0", "--action", "completion", "--keywords", '{"max_tokens": 3}']
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        line = run.stdout.readline()
        address = line.split(" is served at ")[1].split()[0]
        assert address.startswith("http://127.0.0.1:")
        with GenericEnvClient(base_url=address).sync() as client:
            client.reset(seed=0)
            assert client.step({"text": "good great kind"}).reward == 3.0
            run.send_signal(signal.SIGINT)  # while a client is connected
            out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["textenv/GodBad-v0"], "GoodBad"),
        (["CartPole-v1"], "expected an id of textenv"),
        ([TOY, "--keywords", "[]"], "JSON object"),
        ([TOY, "--keywords", "{"], "no JSON"),
        ([TOY, "--keywords", '{"max_token": 3}'], "max_token"),
    ],
)
def test_mistakes_on_the_command_line(arguments, said, capsys):
    with contextlib.suppress(SystemExit):  # tyro's own way to leave, with a box
        assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"action": "strings", "keywords": '{"action": "strings"}'}, "given twice"),
        ({"keywords": '{"port": 3}'}, "'port' is no keyword of environments"),
        ({"sessions": 0}, "sessions ≥ 1"),
        ({"port": 70000}, "port in 0"),
    ],
)
def test_settings_out_of_range(settings, said):
    with pytest.raises(ValueError, match=said):
        ServeConfig(env=TOY, **settings)


def test_a_port_that_is_taken(toy, capsys):
    assert main(["serve", TOY, "--port", toy.address.rpartition(":")[2]]) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"port": "8000"}, "port= takes an integer"),
        ({"port": 70000}, "a port in 0"),
        ({"sessions": 0}, "sessions= takes an integer ≥ 1"),
        ({"sessions": "3"}, "sessions= takes an integer ≥ 1"),
        ({"host": ""}, "expected a host"),
    ],
)
def test_bad_settings_of_a_server(keywords, said):
    with pytest.raises(ValueError, match=said):
        Server(TOY, **keywords)


def test_an_address_that_cannot_be_listened_at(toy):
    taken = int(toy.address.rpartition(":")[2])
    for where in ({"port": taken}, {"host": "nowhere.invalid"}):
        with pytest.raises(OSError, match="port 0 for any that is free"):
            Server(TOY, **where)


def test_a_server_is_started_once_and_leaves_nothing():
    before = threading.active_count()
    with Server(TOY) as server, connected(server) as client:
        client.reset()
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert server._socket.fileno() == -1
    with pytest.raises(TextenvError, match="started once"), server:
        pass


def test_settings():
    config = ServeConfig(env=TOY, lm="reviews", keywords='{"max_tokens": 3}')
    assert config.environment_keywords() == {"max_tokens": 3, "lm": "reviews"}
    assert (config.host, config.port) == ("127.0.0.1", 8000)


def test_without_the_package(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("textenv.interop.openenv")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openenv.core.env_client", None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[serve\]"'):
        import textenv.interop.openenv  # noqa: F401
