"""`textenv serve`, and the server by itself."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("openenv")

from tests.serving import TEXTS, TOY, connected
from textenv.errors import MissingExtraError, TextenvError
from textenv.interop.openenv import Server
from textenv_agents.cli import main
from textenv_agents.serve import ServeConfig


def test_the_command_serves_until_ctrl_c():
    command = [sys.executable, "-W", "error", "-m", "textenv_agents.cli", "serve", TEXTS]
    command += ["--port", "0", "--action", "completion", "--keywords", '{"max_tokens": 3}']
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        line = run.stdout.readline()
        address = line.split(" is served at ")[1].split()[0]
        assert address.startswith("http://127.0.0.1:")
        with connected(address) as client:
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
        ({"keywords": '{"id": "CartPole-v1"}'}, "'id' is no keyword of environments"),
        ({"sessions": 0}, "sessions ≥ 1"),
        ({"port": 70000}, "port in 0"),
    ],
)
def test_settings_out_of_range(settings, said):
    with pytest.raises(ValueError, match=said):
        ServeConfig(env=TOY, **settings)


def test_a_port_that_is_taken(served_toy, capsys):
    assert main(["serve", TOY, "--port", served_toy.address.rpartition(":")[2]]) == 2
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


def test_an_address_that_cannot_be_listened_at(served_toy):
    taken = int(served_toy.address.rpartition(":")[2])
    for where in ({"port": taken}, {"host": "nowhere.invalid"}):
        with pytest.raises(OSError, match="port 0 for any that is free"):
            Server(TOY, **where)


def test_a_server_is_started_once_and_leaves_nothing():
    before = threading.active_count()
    with Server(TOY) as server, connected(server.address) as client:
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
