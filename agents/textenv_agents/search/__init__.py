"""Search over texts: a tree, a beam, the best of n. Nothing here learns.

Each function returns `Found`: finished texts with their scores. `writes` makes a policy of texts,
or of a distribution over them, which `textenv.exact` reads as any other.
"""

from textenv_agents.search.beam import beam_search
from textenv_agents.search.best_of_n import (
    BestOfN,
    best_of_n,
    best_of_n_policy,
    best_of_n_probabilities,
    kl_bound,
)
from textenv_agents.search.texts import Found, writes
from textenv_agents.search.tree import TreeSearch, tree_search

__all__ = [
    "BestOfN",
    "Found",
    "TreeSearch",
    "beam_search",
    "best_of_n",
    "best_of_n_policy",
    "best_of_n_probabilities",
    "kl_bound",
    "tree_search",
    "writes",
]
