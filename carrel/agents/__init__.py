"""Agents: flows over documents that are too long, or too many, for one prompt."""

from __future__ import annotations

from carrel.agents.base import Ask, Bind, Embed, Fit, Fitted, Flow, Read, Retrieve, Score, Steps, flow
from carrel.agents.budget import Budget
from carrel.agents.driver import Happened, Run, arun, run, run_many
from carrel.agents.journal import Journal
from carrel.agents.plan import Plan, Prices, Speed, plan
from carrel.agents.trace import Trace

__all__ = [
    "Ask",
    "Bind",
    "Budget",
    "Embed",
    "Fit",
    "Fitted",
    "Flow",
    "Happened",
    "Journal",
    "Plan",
    "Prices",
    "Read",
    "Retrieve",
    "Run",
    "Score",
    "Speed",
    "Steps",
    "Trace",
    "arun",
    "flow",
    "plan",
    "run",
    "run_many",
]
