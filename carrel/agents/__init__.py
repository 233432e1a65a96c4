"""Agents: flows over documents that are too long, or too many, for one prompt.

A flow is named here, run by ``run``, ``arun`` or ``run_many``, and planned by ``plan``.
"""

from __future__ import annotations

from carrel.agents.agent import agent
from carrel.agents.base import Ask, Bind, Call, Embed, Fit, Fitted, Flow, Pack, Read, Retrieve, Score, Steps, flow
from carrel.agents.budget import Budget
from carrel.agents.chain_of_agents import chain_of_agents
from carrel.agents.clustered import clustered
from carrel.agents.driver import Happened, Run, arun, run, run_many
from carrel.agents.iterative import iterative
from carrel.agents.journal import Journal
from carrel.agents.literature_review import literature_review
from carrel.agents.long_writer import long_writer
from carrel.agents.map_reduce import map_reduce
from carrel.agents.plan import Plan, Prices, Speed, plan
from carrel.agents.reader_worker import ReaderWorker
from carrel.agents.recycled_demonstrations import recycled_demonstrations
from carrel.agents.refine import refine
from carrel.agents.replying import Note, Written
from carrel.agents.retrieve_then_reason import retrieve_then_reason
from carrel.agents.router import router
from carrel.agents.signatures import Signature, Tool
from carrel.agents.structure import structure
from carrel.agents.think_sum import think_sum
from carrel.agents.trace import Trace
from carrel.agents.tree_summary import tree_summary

FLOWS = (
    agent,
    chain_of_agents,
    clustered,
    iterative,
    literature_review,
    long_writer,
    map_reduce,
    recycled_demonstrations,
    refine,
    retrieve_then_reason,
    router,
    structure,
    think_sum,
    tree_summary,
)
"""All flows, by name."""

__all__ = [
    "FLOWS",
    "Ask",
    "Bind",
    "Budget",
    "Call",
    "Embed",
    "Fit",
    "Fitted",
    "Flow",
    "Happened",
    "Journal",
    "Note",
    "Pack",
    "Plan",
    "Prices",
    "Read",
    "ReaderWorker",
    "Retrieve",
    "Run",
    "Score",
    "Signature",
    "Speed",
    "Steps",
    "Tool",
    "Trace",
    "Written",
    "agent",
    "arun",
    "chain_of_agents",
    "clustered",
    "flow",
    "iterative",
    "literature_review",
    "long_writer",
    "map_reduce",
    "plan",
    "recycled_demonstrations",
    "refine",
    "retrieve_then_reason",
    "router",
    "run",
    "run_many",
    "structure",
    "think_sum",
    "tree_summary",
]
