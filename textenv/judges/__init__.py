"""Judges: language models that say what texts are worth. Importing this loads no torch."""

from textenv.judges.backend import (
    AnswerError,
    Backend,
    EndpointError,
    JudgeError,
    NotCachedError,
)
from textenv.judges.cache import Cache
from textenv.judges.endpoint import Endpoint
from textenv.judges.included import TEMPLATES
from textenv.judges.judge import Judge
from textenv.judges.local import LocalModel
from textenv.judges.making import make_judge
from textenv.judges.odds import Odds, PositionBias
from textenv.judges.template import Template, as_template

__all__ = [
    "TEMPLATES",
    "AnswerError",
    "Backend",
    "Cache",
    "Endpoint",
    "EndpointError",
    "Judge",
    "JudgeError",
    "LocalModel",
    "NotCachedError",
    "Odds",
    "PositionBias",
    "Template",
    "as_template",
    "make_judge",
]
