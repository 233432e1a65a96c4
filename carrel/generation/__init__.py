"""From a prompt to an answer: what writes it, and whether it is borne out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrel.generation.base import Generator
    from carrel.generation.dialogue import Dialogue
    from carrel.generation.extractive import ExtractiveGenerator
    from carrel.generation.openai_compatible import OpenAICompatible
    from carrel.generation.reader import ReaderGenerator
    from carrel.generation.transformers_engine import TransformersGenerator
    from carrel.generation.vllm_engine import VLLMEngine

_HOMES = {
    "Dialogue": "dialogue",
    "ExtractiveGenerator": "extractive",
    "Generator": "base",
    "OpenAICompatible": "openai_compatible",
    "ReaderGenerator": "reader",
    "TransformersGenerator": "transformers_engine",
    "VLLMEngine": "vllm_engine",
}

__all__ = [
    "Dialogue",
    "ExtractiveGenerator",
    "Generator",
    "OpenAICompatible",
    "ReaderGenerator",
    "TransformersGenerator",
    "VLLMEngine",
]


def __getattr__(name: str) -> object:
    """Import a generator on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'carrel.generation' has no attribute {name!r}")
    return getattr(import_module(f"carrel.generation.{_HOMES[name]}"), name)
