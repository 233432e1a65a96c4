"""For tests: a fast encoder that needs no model, and conformance kits for your own methods.

A kit is a plain class: subclass it in a test file, override ``make``, and pytest runs its tests on what
you return. Nothing here is imported by the rest of Carrel.

    from carrel.testing import CutoffConformance

    class TestMyCutoff(CutoffConformance):
        def make(self):
            return MyCutoff()
"""

from carrel.testing.answerers import AnswererConformance
from carrel.testing.cutoffs import CutoffConformance
from carrel.testing.encoders import ChunkEncoderConformance, HashEncoder
from carrel.testing.fakes import EchoGenerator, FakeGenerator
from carrel.testing.flows import FlowConformance
from carrel.testing.generators import GeneratorConformance
from carrel.testing.indexes import DerivedIndexConformance
from carrel.testing.kv import KVPolicyConformance, SparseAttentionConformance
from carrel.testing.loaders import LoaderConformance, check_document
from carrel.testing.memories import MemoryConformance
from carrel.testing.pruners import PrunerConformance
from carrel.testing.rerankers import RerankerConformance
from carrel.testing.retrievers import RetrieverConformance
from carrel.testing.tokenizers import TokenizerConformance, WordTokenizer
from carrel.testing.verifiers import VerifierConformance

__all__ = [
    "AnswererConformance",
    "ChunkEncoderConformance",
    "CutoffConformance",
    "DerivedIndexConformance",
    "EchoGenerator",
    "FakeGenerator",
    "FlowConformance",
    "GeneratorConformance",
    "HashEncoder",
    "KVPolicyConformance",
    "LoaderConformance",
    "MemoryConformance",
    "PrunerConformance",
    "RerankerConformance",
    "RetrieverConformance",
    "SparseAttentionConformance",
    "TokenizerConformance",
    "VerifierConformance",
    "WordTokenizer",
    "check_document",
]
