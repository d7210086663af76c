"""Rewards: what a text is worth. Plain callables, combined with + and *, named in a registry."""

from textenv.rewards.base import Reward
from textenv.rewards.classifier import Classifier
from textenv.rewards.combine import Combined
from textenv.rewards.compared import PreferenceReward, preference
from textenv.rewards.convert import RewardLike, as_reward, get
from textenv.rewards.edits import EditDistance, EditSimilarity, edit_distance, edit_similarity
from textenv.rewards.filters import BlocklistPenalty, Toxicity, blocklist, toxicity
from textenv.rewards.fluency import Perplexity, perplexity
from textenv.rewards.function import FunctionReward
from textenv.rewards.judged import JudgeReward, judge
from textenv.rewards.learned import LearnedReward
from textenv.rewards.lexicon import Sentiment, sentiment
from textenv.rewards.overlap import Rouge, TokenF1, rouge, token_f1
from textenv.rewards.reading import Readability, readability
from textenv.rewards.reasoning import ReasoningGym, WellFormed, reasoning_gym, well_formed
from textenv.rewards.registry import names, register
from textenv.rewards.scoring import Scorer, Scores, Texts
from textenv.rewards.steps import PerToken, per_token
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
from textenv.rewards.translation import Bleu, ChrF, bleu, chrf
from textenv.rewards.variety import (
    DistinctN,
    Repetition,
    SelfBleu,
    distinct_n,
    repetition,
    self_bleu,
)
from textenv.rewards.words import WordPreference, word_preference

__all__ = [
    "Bleu",
    "BlocklistPenalty",
    "ChrF",
    "Classifier",
    "Combined",
    "DistinctN",
    "EditDistance",
    "EditSimilarity",
    "ExactMatch",
    "FunctionReward",
    "JudgeReward",
    "LearnedReward",
    "Length",
    "PerToken",
    "Perplexity",
    "PreferenceReward",
    "Readability",
    "ReasoningGym",
    "RegularExpression",
    "Repetition",
    "Reward",
    "RewardLike",
    "Rouge",
    "Scorer",
    "Scores",
    "SelfBleu",
    "Sentiment",
    "Texts",
    "TokenF1",
    "Toxicity",
    "WellFormed",
    "WordPreference",
    "Zero",
    "as_reward",
    "bleu",
    "blocklist",
    "chrf",
    "distinct_n",
    "edit_distance",
    "edit_similarity",
    "exact_match",
    "get",
    "judge",
    "length",
    "names",
    "per_token",
    "perplexity",
    "preference",
    "readability",
    "reasoning_gym",
    "register",
    "regular_expression",
    "repetition",
    "rouge",
    "self_bleu",
    "sentiment",
    "token_f1",
    "toxicity",
    "well_formed",
    "word_preference",
    "zero",
]
