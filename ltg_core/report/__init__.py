"""One self-contained HTML file that tells of a weakness: no script, no request, nothing outside the file."""

from ltg_core.report.page import render
from ltg_core.report.parts import Case, Change, Measure, Picture, Report, Scatter, Step
from ltg_core.report.pictures import data_url
from ltg_core.report.redaction import Redactor

__all__ = [
    "Case",
    "Change",
    "Measure",
    "Picture",
    "Redactor",
    "Report",
    "Scatter",
    "Step",
    "data_url",
    "render",
]
