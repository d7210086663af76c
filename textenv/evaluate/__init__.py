"""What a policy is worth, from its texts alone: measures with intervals, a table, JSON, a page."""

from textenv.evaluate.beside import compare, counted, rows_of, samples_of
from textenv.evaluate.measures import NAMES, Measure, measures_of
from textenv.evaluate.report import Report, Row, Sample, SampleText
from textenv.evaluate.resampling import Resampling, Spread
from textenv.evaluate.sample_page import page
from textenv.evaluate.written import Written

__all__ = [
    "NAMES",
    "Measure",
    "Report",
    "Resampling",
    "Row",
    "Sample",
    "SampleText",
    "Spread",
    "Written",
    "compare",
    "counted",
    "measures_of",
    "page",
    "rows_of",
    "samples_of",
]
