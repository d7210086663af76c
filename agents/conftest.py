"""Which modules pytest does not look for doctests in: those whose library is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("ray") else ["textenv_agents/rllib.py"]
