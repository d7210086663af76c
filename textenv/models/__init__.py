"""Language models behind one protocol. Importing this loads torch."""

from textenv.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("torch", "a language model") from _error

from textenv.models.base import LanguageModel, Score
from textenv.models.causal import CausalLM
from textenv.models.loading import load
from textenv.models.lstm import LSTMLM
from textenv.models.memory import Next
from textenv.models.sampling import Kept, Sampling
from textenv.models.seq2seq import Seq2SeqLM
from textenv.models.steered import SteeredLM
from textenv.models.tabular import TabularLM
from textenv.prefixes import Prefixes

__all__ = [
    "LSTMLM",
    "CausalLM",
    "Kept",
    "LanguageModel",
    "Next",
    "Prefixes",
    "Sampling",
    "Score",
    "Seq2SeqLM",
    "SteeredLM",
    "TabularLM",
    "load",
]
