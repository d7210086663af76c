"""Where the folders of language models come from: the Hub, .gguf files, SmolLM2's package.

No torch here until a model is converted: an environment needs the vocabulary alone.
"""

from textenv.sources.cached import cache_folder
from textenv.sources.hub import is_hub_id, snapshot

__all__ = ["cache_folder", "is_hub_id", "snapshot"]
