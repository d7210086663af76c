"""What encoders read of prompts, and how long it is remembered."""

from __future__ import annotations

import numpy as np
import torch

from textenv.models import Prefixes
from textenv.models.encoded import Encoded, Sources


def test_sources_by_hand():
    # Rows: "5 6", nothing, "9 $" with P = 3, V = 11 for nothing, $ = 10.
    tokens = np.array([[11, 5, 6, 1], [11, 11, 11, 2], [11, 9, 10, 11]])
    sources = Sources.of(Prefixes(tokens, 3, 11, np.array([1, 1, 0])), end_token=10)
    assert sources.ids.tolist() == [[5, 6, 10], [10, -1, -1], [9, 10, -1]]
    assert sources.length.tolist() == [3, 1, 2]
    inputs = sources.inputs(torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[5, 6, 10], [10, 0, 0], [9, 10, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    joined = Sources.join([np.array([10]), np.array([9, 10])])
    assert (joined.ids.tolist(), joined.length.tolist()) == ([[10, -1], [9, 10]], [1, 2])
    once, which = Sources(sources.ids[[0, 1, 0]], sources.length[[0, 1, 0]]).different()
    assert (len(once.ids), once.ids[which].tolist()) == (2, sources.ids[[0, 1, 0]].tolist())


def test_what_is_encoded_is_remembered_until_there_is_too_much():
    read = []

    def encode(sources):
        read.append(sources.ids[:, 0].tolist())
        return torch.as_tensor(sources.ids)[..., None].float()

    encoded = Encoded(encode, most_tokens=3)

    def ask(*ids, key=0):
        encoded.keep_valid(key)
        numbers = encoded.numbers(Sources.join([np.array([number]) for number in ids]))
        assert encoded.states(numbers)[:, 0, 0].tolist() == list(ids)

    ask(1, 2, 1)
    ask(2, 3)
    assert read == [[1, 2], [3]]
    ask(1)  # used again, so 2 is now the oldest
    ask(4)
    ask(1, 3, 4)
    assert read == [[1, 2], [3], [4]]
    ask(2)
    ask(5, 6, 7, 8)  # more than the limit at once
    ask(2, 8, key=1)  # other weights
    assert read == [[1, 2], [3], [4], [2], [5, 6, 7, 8], [2, 8]]
    assert len(encoded) == 8
    encoded.forget()
    assert len(encoded) == 0
