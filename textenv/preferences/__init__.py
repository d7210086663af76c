"""What people, scripts and judges prefer, kept and learned from. `README.md` lists the rooms."""

from textenv.preferences.comparisons import Comparison, RatedText, Rater, Verdict

__all__ = ["Comparison", "RatedText", "Rater", "Verdict"]
