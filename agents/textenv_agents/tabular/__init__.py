"""What tabular learning stands on: the table, its policies, V of a policy, softmax preferences."""

from textenv_agents.tabular.evaluation import evaluate_policy, sweep_policy
from textenv_agents.tabular.preferences import SoftmaxPreferences
from textenv_agents.tabular.table import Table

__all__ = ["SoftmaxPreferences", "Table", "evaluate_policy", "sweep_policy"]
