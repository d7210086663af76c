"""What the tests of textenv/ReasoningGym-v0 share."""

from __future__ import annotations

ID = "textenv/ReasoningGym-v0"


def play(env, item, text):
    """What a text earns in one step, and the info."""
    env.reset(options={"prompt_index": item})
    _, reward, terminated, truncated, info = env.step(text)
    assert terminated
    assert not truncated
    return reward, info
