"""Measuring retrieval and context: question sets, metrics, a runner, and reports.

>>> evaluation = evaluate(load_dataset("data/squad"), ["default", "dense"], limit=500)  # doctest: +SKIP
>>> report.plot(evaluation, "squad.svg")  # doctest: +SKIP
"""

from carrel.evaluation import report
from carrel.evaluation.configurations import CONFIGURATIONS, Configuration
from carrel.evaluation.datasets import Dataset, load_collection, load_dataset
from carrel.evaluation.results import Evaluation
from carrel.evaluation.runner import evaluate

__all__ = [
    "CONFIGURATIONS",
    "Configuration",
    "Dataset",
    "Evaluation",
    "evaluate",
    "load_collection",
    "load_dataset",
    "report",
]
