"""Logged data: what any policy wrote, as arrays, Minari datasets and CSV files."""

from textenv.logged.checks import BadTextError
from textenv.logged.csv_reading import read_csv
from textenv.logged.csv_rows import CsvError
from textenv.logged.csv_writing import write_csv
from textenv.logged.minari_loading import load_minari
from textenv.logged.minari_saving import save_minari
from textenv.logged.texts import LoggedTexts, Transitions

__all__ = [
    "BadTextError",
    "CsvError",
    "LoggedTexts",
    "Transitions",
    "load_minari",
    "read_csv",
    "save_minari",
    "write_csv",
]
