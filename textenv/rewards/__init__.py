"""Rewards: what a text is worth. Plain callables, combined with + and *, named in a registry."""

from textenv.rewards.base import Reward
from textenv.rewards.combine import Combined
from textenv.rewards.convert import RewardLike, as_reward, get
from textenv.rewards.edits import EditSimilarity, edit_similarity
from textenv.rewards.function import FunctionReward
from textenv.rewards.lexicon import Sentiment, sentiment
from textenv.rewards.registry import names, register
from textenv.rewards.scoring import Scorer, Scores, Texts
from textenv.rewards.text import (
    ExactMatch,
    Length,
    RegularExpression,
    Zero,
    exact_match,
    length,
    regular_expression,
    zero,
)
from textenv.rewards.words import WordPreference, word_preference

__all__ = [
    "Combined",
    "EditSimilarity",
    "ExactMatch",
    "FunctionReward",
    "Length",
    "RegularExpression",
    "Reward",
    "RewardLike",
    "Scorer",
    "Scores",
    "Sentiment",
    "Texts",
    "WordPreference",
    "Zero",
    "as_reward",
    "edit_similarity",
    "exact_match",
    "get",
    "length",
    "names",
    "register",
    "regular_expression",
    "sentiment",
    "word_preference",
    "zero",
]
