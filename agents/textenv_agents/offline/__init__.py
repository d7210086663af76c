"""Learning from logged texts alone. Importing this loads torch."""

from textenv_agents.offline.config import ImplicitQConfig
from textenv_agents.offline.implicit_q import ImplicitQLearning, LearnedValues

__all__ = ["ImplicitQConfig", "ImplicitQLearning", "LearnedValues"]
