"""The presses of kvpress by name: which class each one is, what it does to memory, and whether it can be used here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from carrel.errors import InputError

Status = Literal["tested", "untested", "refused"]


@dataclass(frozen=True, slots=True)
class PressEntry:
    """One press of kvpress.

    Attributes
    ----------
    name, citation : the method's name, as the field writes it, and its paper.
    kvpress : its class there.
    frees : whether the keys it drops leave memory.
    hides : whether they stay, and questions do not see them.
    status, reason : whether it can be used, and why not, or what to know.
    query_aware : whether it reads the question before it drops anything.
    ratio : the argument of the class that takes the share to remove.
    over : the scorers that a wrapper takes, its own choice first: ``adakv_knorm`` is ``adakv`` over ``knorm``.
    fixed : further arguments of the class, by name.
    scorer_fixed : of the scorer in a wrapper: its name, an argument, its value.
    attention : the attention that the context has to be read with; any by default.
    needs : what it needs besides the model. The tokenizer lies in the model's own folder.
    """

    name: str
    kvpress: str
    citation: str
    frees: bool = True
    hides: bool = False
    status: Status = "tested"
    reason: str = ""
    query_aware: bool = False
    ratio: str = "compression_ratio"
    over: tuple[str, ...] = ()
    fixed: tuple[tuple[str, object], ...] = ()
    scorer_fixed: tuple[tuple[str, str, object], ...] = ()
    attention: Literal["", "eager", "sdpa"] = ""
    needs: Literal["", "tokenizer", "patterns", "curves", "weights"] = ""


def _hiding(name: str, kvpress: str, citation: str, **options: object) -> PressEntry:
    return PressEntry(name, kvpress, citation, frees=False, hides=True, attention="sdpa", **options)  # type: ignore[arg-type]


def _fetching(name: str, kvpress: str, citation: str, *, hides: bool = False) -> PressEntry:
    reason = "needs weights made for the model, in the local Hugging Face cache"
    attention: Literal["", "sdpa"] = "sdpa" if hides else ""
    return PressEntry(
        name, kvpress, citation, not hides, hides, "untested", reason, needs="weights", attention=attention
    )  # fmt: skip


def _refused(name: str, kvpress: str, citation: str, reason: str, *, query_aware: bool = False) -> PressEntry:
    return PressEntry(name, kvpress, citation, False, False, "refused", reason, query_aware)


_COMPACTOR, _CRITICAL = "Compactor, arXiv 2507.08143", "CriticalKV, arXiv 2502.03805"
_FINCH, _CHUNKKV = "FINCH, doi 10.1162/tacl_a_00716", "ChunkKV, arXiv 2502.00299"
_DECODING = "acts on the answer while it is written, not on the context"
_LAST = "scores keys by the last {} of the context, which is not the question here"
_LENGTHS = "layers keep different numbers of keys, and each takes the memory of the longest"
_NO_VNORM = (("expected_attention", "use_vnorm", False),)  # the wrapper weighs the values itself
_SCORERS = (
    "snapkv", "expected_attention", "knorm", "keydiff", "tova", "lagkv", "cur", "leverage", "compactor",
    "non_causal_attention", "cap",
)  # fmt: skip
_ANYWHERE = ("keydiff", "knorm")  # scorers that do not ask where in the context a key stands

_ENTRIES = (
    PressEntry("snapkv", "SnapKVPress", "SnapKV, arXiv 2404.14469", reason=_LAST.format("64 tokens")),
    PressEntry("expected_attention", "ExpectedAttentionPress", "Expected Attention, arXiv 2510.00636"),
    PressEntry("knorm", "KnormPress", "arXiv 2406.11430"),
    PressEntry("keydiff", "KeyDiffPress", "KeyDiff, arXiv 2504.15364"),
    PressEntry("tova", "TOVAPress", "TOVA, arXiv 2401.06104", reason=_LAST.format("token")),
    PressEntry("streaming_llm", "StreamingLLMPress", "StreamingLLM, arXiv 2309.17453"),
    PressEntry(
        "observed_attention", "ObservedAttentionPress", "related to H2O, arXiv 2306.14048", attention="eager",
        reason="the context is read with eager attention, whose weights take memory in the square of its length",
    ),
    PressEntry(
        "lagkv", "LagKVPress", "LagKV, arXiv 2504.04704",
        reason="a context of fewer than 260 tokens only keeps its first and its newest keys",
    ),
    PressEntry("cur", "CURPress", "CurDKV, arXiv 2509.15038"),
    PressEntry("leverage", "LeverageScorePress", _COMPACTOR),
    PressEntry("compactor", "CompactorPress", _COMPACTOR),
    PressEntry("non_causal_attention", "NonCausalAttnPress", _COMPACTOR),
    PressEntry("cap", "CapPress", "CapKV, arXiv 2604.25975"),
    PressEntry("criticalkv", "CriticalKVPress", _CRITICAL, over=_SCORERS, scorer_fixed=_NO_VNORM),
    PressEntry(
        "pyramidkv", "PyramidKVPress", "PyramidKV, arXiv 2406.02069",
        reason=f"{_LENGTHS}; a short context is cut as by snapkv",
    ),
    PressEntry(
        "kvcompose", "KVComposePress", "KVCompose, arXiv 2509.05165",
        reason=f"{_LENGTHS}; the context is read twice, with eager attention",
    ),
    PressEntry(
        "chunkkv", "ChunkKVPress", _CHUNKKV, over=_SCORERS, attention="sdpa", reason="keeps whole chunks of 20 tokens",
    ),
    PressEntry("entropy_gated_chunkkv", "EntropyGatedChunkKVPress", _CHUNKKV, over=_SCORERS, attention="sdpa"),
    PressEntry("chunk", "ChunkPress", _FINCH, over=_ANYWHERE, attention="sdpa"),
    PressEntry("block", "BlockPress", "KeyDiff, arXiv 2504.15364", over=_ANYWHERE, attention="sdpa"),
    PressEntry("merging", "MergingPress", "inspired by D2O, arXiv 2406.13035", over=_SCORERS),
    PressEntry(
        "think", "ThinKPress", "ThinK, arXiv 2407.21018", frees=False, ratio="key_channel_compression_ratio",
        reason="the share is that of the keys' channels; the others are set to 0, and no key is dropped",
    ),
    _hiding("adakv", "AdaKVPress", "Ada-KV, arXiv 2407.11550", over=_SCORERS),
    _hiding("critical_adakv", "CriticalAdaKVPress", _CRITICAL, over=_SCORERS, scorer_fixed=_NO_VNORM),
    _hiding("kvzip", "KVzipPress", "KVzip, arXiv 2505.23416", needs="tokenizer"),
    _hiding(
        "kvzip_plus", "KVzipPress", "KVzip, arXiv 2505.23416", needs="tokenizer",
        fixed=(("kvzip_plus_normalization", True),),
    ),
    _hiding("kvgrad", "KVgradPress", "KVgrad, openreview cg1wTCJjjk", needs="tokenizer"),
    _hiding(
        "duo_attention", "DuoAttentionPress", "DuoAttention, arXiv 2410.10819", ratio="head_compression_ratio",
        reason="the share is that of the heads that see the whole context", needs="patterns",
    ),
    _hiding("lukv", "LUKVPress", "LU-KV, arXiv 2602.08585", needs="curves"),
    _fetching("qfilter", "QFilterPress", "Q-Filters, arXiv 2503.02812"),
    _fetching("expected_attention_stats", "ExpectedAttentionStatsPress", "Expected Attention, arXiv 2510.00636"),
    _fetching("kvzap", "KVzapPress", "KVzap, arXiv 2601.07891"),
    _fetching("fastkvzip", "FastKVzipPress", "Fast KVzip, arXiv 2601.17668", hides=True),
    _refused(
        "finch", "FinchPress", _FINCH, "reads the question, behind a mark in the context, before it drops anything",
        query_aware=True,
    ),
    _refused(
        "key_rerotation", "KeyRerotationPress", "SinkCache of the transformers library",
        "gives the keys that stay new positions, and questions here stand behind the whole context",
    ),
    _refused(
        "restorekv", "RestoreKVPress", "RestoreKV, arXiv 2608.01247",
        "adds keys of its own at the positions where the question stands here; also needs weights made for the model",
    ),
    _refused("per_layer", "PerLayerCompressionPress", "", "takes a share for each layer"),
    _refused(
        "simlayerkv", "SimLayerKVPress", "SimLayerKV, arXiv 2410.13846",
        "takes a threshold and no share",
    ),
    _refused("dms", "DMSPress", "DMS, arXiv 2506.05345", "takes a threshold of the scores and no share"),
    _refused("decoding", "DecodingPress", "", _DECODING),
    _refused("decoding_ratio", "CompressionRatioDecodingPress", "", _DECODING),
    _refused("cam", "CAMPress", "CaM, openreview LCTmppB165", _DECODING),
    _refused("prefill_decoding", "PrefillDecodingPress", "", "the part after the context " + _DECODING),
    _refused("composed", "ComposedPress", "", "policies are joined by +: snapkv:0.5+int8"),
    _refused("random", "RandomPress", "", "Carrel has one of its own, which is what random:0.25 names"),
)  # fmt: skip
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def presses() -> tuple[PressEntry, ...]:
    """All presses of kvpress, those that are refused last."""
    return _ENTRIES


def wanting(entry: PressEntry) -> str:
    """What a press takes that no name can give, and who takes it; empty where its name and a share are enough."""
    what = {"patterns": "patterns of the model's heads", "curves": "curves of the budget of each head"}.get(entry.needs)
    if what is None:
        return ""
    return (
        f"Needs {what}, which no name gives: make_press({entry.name!r}, keep, {entry.needs}=...) of"
        " carrel.generation.kv.presses makes it."
    )


def find_press(name: str) -> tuple[PressEntry, PressEntry | None]:
    """The press of a name, and the scorer of a wrapper: ``adakv`` or ``adakv_knorm``.

    Raises
    ------
    InputError : there is none of this name, or one that cannot be used.
    """
    entry, scorer = _BY_NAME.get(name), ""
    if entry is None:
        pairs = [(wrapper, inner) for wrapper in _ENTRIES for inner in wrapper.over]
        entry, scorer = next(((w, s) for w, s in pairs if name == f"{w.name}_{s}"), (None, ""))
    if entry is None:
        raise InputError(_unknown(name))
    if entry.status == "refused":
        raise InputError(f"The KV policy {name!r} cannot be used here: {entry.reason}.")
    scorer = scorer or (entry.over[0] if entry.over else "")
    return entry, _BY_NAME[scorer] if scorer else None


def _unknown(name: str) -> str:
    known = [entry.name for entry in _ENTRIES if entry.status != "refused"]
    pairs = [f"{entry.name}_{scorer}" for entry in _ENTRIES for scorer in entry.over]
    close = difflib.get_close_matches(name, [*_BY_NAME, *pairs, "dense", "random", "int8", "int4"], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"There is no KV policy {name!r}.{hint} Known: dense, random, int8, int4, {', '.join(known)}; wrappers also"
        " with their scorer, such as adakv_knorm."
    )
