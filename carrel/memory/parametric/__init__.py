"""Documents in parameters: trained into LoRA adapters, kept with their library, and merged for a question."""

from carrel.memory.parametric.files import AdapterFiles, StoredAdapter
from carrel.memory.parametric.generator import ParametricGenerator
from carrel.memory.parametric.pairs import GeneratedPairs, Pair, ReaderPairs
from carrel.memory.parametric.recipes import LIFT, PARAMETRIC_RAG, TEMP_LORA, Recipe
from carrel.memory.parametric.temporary import TemporaryMemory

__all__ = [
    "LIFT",
    "PARAMETRIC_RAG",
    "TEMP_LORA",
    "AdapterFiles",
    "GeneratedPairs",
    "Pair",
    "ParametricGenerator",
    "ReaderPairs",
    "Recipe",
    "StoredAdapter",
    "TemporaryMemory",
]
