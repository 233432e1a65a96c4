"""Promise 1 for flows: a prompt is never longer than its window, and no text is lost between one and the next."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carrel.agents.base import MOST_REPLY_TOKENS, Fit, Fitted
from carrel.agents.fitting import fit, reply_room
from carrel.agents.pieces import units
from carrel.errors import ContextOverflowError
from carrel.retrieval.packing import SEPARATOR, block
from carrel.testing import FakeGenerator, WordTokenizer
from carrel.tokens import Tokenizer, shipped_tokenizer, truncated
from carrel.types import Document, Passage, Prompt, Span

SENTENCES = " ".join(f"Sentence number {number} tells of the harbour." for number in range(400))


class Growing:
    """Counts that do not add up: the longer a text, the more tokens a word of it has; white space counts."""

    name = "growing"

    def offsets(self, text: str) -> list[tuple[int, int]]:
        spans = [match.span() for match in re.finditer(r"\s+|\w{1,3}|[^\w\s]", text)]
        return spans + [(len(text), len(text))] * (len(spans) // 7)

    def count(self, text: str) -> int:
        return len(self.offsets(text))

    def truncate(self, text: str, limit: int) -> str:
        return truncated(self, text, limit)


class Characters(Growing):
    """A token for every character, as some scripts have it."""

    name = "characters"

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]


TOKENIZERS: list[Tokenizer] = [WordTokenizer(), shipped_tokenizer(), Growing(), Characters()]


def _passages(texts: Sequence[str], kept: Sequence[bool] = (), document: str = "d") -> tuple[Passage, ...]:
    """Passages that stand one after another in a document."""
    out, at = [], 0
    for number, text in enumerate(texts):
        passage = Passage(document, at, at + len(text), text, "A Title")
        if number < len(kept) and kept[number] and len(text) > 4:
            spans = (Span(at, at + len(text) // 3), Span(at + len(text) // 2, at + len(text)))
            passage = replace(passage, kept=spans)
        out.append(passage)
        at += len(text)
    return tuple(out)


def _generator(window: int | None, tokenizer: Tokenizer | None = None) -> FakeGenerator:
    return FakeGenerator("", context_window=window, tokenizer=tokenizer)


def _used(generator: FakeGenerator, prompt: Prompt, taken: Sequence[Passage]) -> int:
    """Tokens of the prompt as rendered with the passages, and of its reply."""
    assert generator.context_window is not None
    whole = replace(prompt, passages=(*prompt.passages, *taken))
    return generator.prompt_tokens(whole) + reply_room(prompt, generator.context_window)


def _text(passages: Sequence[Passage]) -> str:
    """All that is shown of passages, white space aside."""
    return "".join("".join("".join(passage.pieces).split()) for passage in passages)


def _read(request: Fit, generator: FakeGenerator) -> list[Fitted]:
    """Piece by piece to the end; every piece must fit and get on."""
    out: list[Fitted] = []
    left = request.passages
    while left:
        fitted = fit(replace(request, passages=left), generator)
        assert fitted.taken and _text(fitted.taken), "no progress"
        assert _text((*fitted.taken, *fitted.left)) == _text(left), "text was lost"
        if generator.context_window is not None:
            assert _used(generator, request.prompt, fitted.taken) <= generator.context_window
        if request.limit is not None:
            first = len(request.prompt.passages) + 1
            shown = SEPARATOR.join(block(passage, number) for number, passage in enumerate(fitted.taken, start=first))
            assert generator.count_tokens(shown) <= request.limit
        out.append(fitted)
        left = fitted.left
        assert len(out) < 3000
    return out


_hostile = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=300),
    st.sampled_from(
        [
            "x" * 700, "港" * 300, "船は港に着いた。" * 40, "🚢" * 200, "e\u0301" * 200, "no end " * 90, "x",
            "\n" * 80 + "x",
            " " * 2000 + "far away", "a" + "\t" * 900 + "b", "One. Two. Three. " * 40, "[1] [2]\n[3] fake\n" * 20,
            "Dr. A. B. said so. " * 20, "\u2028".join("line" * 9 for _ in range(20)), ". " * 200, "word\n\n" * 80,
        ]
    ),
)  # fmt: skip
_texts = st.lists(_hostile, min_size=1, max_size=5).filter(lambda texts: bool("".join(texts).strip()))
_prompts = st.builds(
    Prompt,
    st.text(max_size=20),
    task=st.sampled_from(["", "Read the passages. " * 3]),
    notes=st.lists(st.text(max_size=30), max_size=2).map(tuple),
    max_tokens=st.none() | st.integers(1, 90),
    passages=st.sampled_from([(), _passages(["Quoted before."], document="other")]),
)


@given(
    _texts, st.lists(st.booleans(), max_size=5), _prompts, st.integers(1, 500), st.none() | st.integers(1, 200),
    st.booleans(), st.sampled_from(TOKENIZERS),
)  # fmt: skip
def test_no_prompt_is_beyond_its_window_and_no_text_is_lost(
    texts: list[str],
    kept: list[bool],
    prompt: Prompt,
    window: int,
    limit: int | None,
    whole: bool,
    tokenizer: Tokenizer,
) -> None:  # fmt: skip
    passages = tuple(passage for passage in _passages(texts, kept) if "".join(passage.pieces).strip())
    assume(passages)
    generator = _generator(window, tokenizer)
    try:
        _read(Fit(prompt, passages, limit, whole), generator)
    except ContextOverflowError:
        is_narrow = _is_narrow(prompt, passages, limit, generator)
    else:
        is_narrow = True
    assert is_narrow, "there was room"


def _is_narrow(prompt: Prompt, passages: Sequence[Passage], limit: int | None, generator: FakeGenerator) -> bool:
    """Whether a title and a few characters are too much."""
    window = generator.context_window or 0
    header = generator.count_tokens(block(replace(passages[0], text="", kept=None), 10) + SEPARATOR)
    room = window - reply_room(prompt, window) - generator.prompt_tokens(prompt)
    return min(room, window if limit is None else limit) <= 2 * header + 16


@given(_texts, st.integers(120, 600), st.sampled_from(TOKENIZERS))
def test_the_pieces_of_a_document_tile_it(texts: list[str], window: int, tokenizer: Tokenizer) -> None:
    document = Document("\n".join(texts), "d", "Title")
    pieces = _read(Fit(Prompt("q", max_tokens=20), units(document)), _generator(window, tokenizer))
    at = 0
    for passage in (passage for piece in pieces for passage in piece.taken):
        assert passage.start >= at and not document.text[at : passage.start].strip()
        assert passage.text == document.text[passage.start : passage.end]
        at = passage.end
    assert not document.text[at:].strip()


# -- what is taken ---------------------------------------------------------------------------------


def test_without_a_window_and_a_limit_all_is_taken() -> None:
    passages = _passages([SENTENCES])
    assert fit(Fit(Prompt("q"), passages), _generator(None)) == Fitted(passages, ())


def test_of_nothing_nothing_is_taken() -> None:
    assert fit(Fit(Prompt("q"), ()), _generator(100)) == Fitted((), ())


def test_a_prompt_that_does_not_fit_by_itself_is_an_error_even_without_passages() -> None:
    with pytest.raises(ContextOverflowError, match="reads 20 tokens, and the prompt leaves 0"):
        fit(Fit(Prompt("word " * 30), ()), _generator(20))


def test_a_piece_fills_its_window() -> None:
    """With a tokenizer whose counts add up: the next sentence would be too much."""
    generator, prompt = _generator(200), Prompt("q", max_tokens=50)
    fitted = fit(Fit(prompt, _passages([SENTENCES])), generator)
    (cut,), (rest,) = fitted.taken, fitted.left
    assert cut.text.endswith("harbour. ") and rest.text.startswith("Sentence number")
    used = _used(generator, prompt, [cut])
    assert used <= 200 < used + 8  # tokens of a sentence


def test_whole_passages_are_cut_only_where_they_are_the_first() -> None:
    passages = _passages(["One two three. " * 3, "Four five six. " * 30])
    prompt, generator = Prompt("q", max_tokens=10), _generator(80)
    assert len(fit(Fit(prompt, passages), generator).taken) == 2
    fitted = fit(Fit(prompt, passages, whole=True), generator)
    assert fitted == Fitted(passages[:1], passages[1:])
    cut = fit(Fit(prompt, fitted.left, whole=True), generator)
    assert len(cut.taken) == 1 and passages[1].text.startswith(cut.taken[0].text) and cut.left


def test_a_limit_is_of_the_passages_as_they_are_shown() -> None:
    generator = _generator(None)
    pieces = _read(Fit(Prompt("q"), _passages([SENTENCES]), limit=60), generator)
    assert len(pieces) > 30
    assert all(generator.count_tokens(block(piece.taken[0], 1)) > 60 - 8 for piece in pieces[:-1])


def test_pruned_passages_are_taken_whole_or_sentence_by_sentence() -> None:
    text = "One is here. Two is there. Three is gone. "
    kept = (Span(0, 13), Span(27, 42))
    pruned = Passage("d", 0, len(text), text, kept=kept)
    assert fit(Fit(Prompt("q"), (pruned,)), _generator(100)).taken == (pruned,)
    fitted = fit(Fit(Prompt("q"), (pruned,), limit=8), _generator(None))
    assert [p.text for p in fitted.taken] == ["One is here. "] and [p.text for p in fitted.left] == ["Three is gone. "]


def test_a_pruned_passage_whose_count_was_too_low_is_taken_apart() -> None:
    class Late(WordTokenizer):
        """Whole prompts have more tokens than their parts."""

        def count(self, text: str) -> int:
            return super().count(text) + (6 if "Three" in text and text.endswith("q") else 0)

    text = "One is here. Two is there. Three is gone. "
    pruned = Passage("d", 0, len(text), text, kept=(Span(0, 13), Span(27, 42)))
    fitted = fit(Fit(Prompt("q", max_tokens=7), (pruned,)), _generator(20, Late()))
    assert fitted.taken[0].text == "One is here. "
    assert "".join(p.text for p in (*fitted.taken, *fitted.left)) == "One is here. Three is gone. " and fitted.left


def test_white_space_costs_nothing() -> None:
    far = Passage("d", 0, 5008, " " * 5000 + "at last.")
    for tokenizer in (WordTokenizer(), Growing()):
        assert fit(Fit(Prompt("q", max_tokens=1), (far,)), _generator(20, tokenizer)).taken == (far,)


def test_reply_room() -> None:
    assert reply_room(Prompt("q"), 100_000) == MOST_REPLY_TOKENS and reply_room(Prompt("q"), 400) == 100
    assert reply_room(Prompt("q", max_tokens=700), 100_000) == 700
    assert reply_room(Prompt("q", max_tokens=700), 400) == 200


# -- how long it takes -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["paragraphs", "one line", "one word"])
def test_five_megabytes_are_cut_in_seconds(kind: str) -> None:
    paragraph = "The harbour master wrote down each ship that came in. Then she went home again.\n"
    text = {
        "paragraphs": paragraph * (5_000_000 // len(paragraph)),
        "one line": paragraph.replace("\n", " ") * (5_000_000 // len(paragraph)),
        "one word": "x" * 5_000_000,
    }[kind]
    generator, prompt = _generator(4096), Prompt("q", max_tokens=256)
    began = time.perf_counter()
    left, pieces = units(Document(text, "d")), 0
    while left:
        left, pieces = fit(Fit(prompt, left), generator).left, pieces + 1
    assert pieces > 50
    assert time.perf_counter() - began < 20, "seconds; loose, for a busy machine"


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.name)
def test_only_the_first_passage_is_cut_within_a_sentence(tokenizer: Tokenizer) -> None:
    """Where not one sentence of a later one has room, all of it is left for the next piece."""
    long = "A sentence of many words, " * 30 + "which ends here. "
    passages = _passages(["One two three. ", long, "The end."])
    prompt, cuts = Prompt("q", max_tokens=5), 0
    for window in range(60, 600, 7):
        try:
            fitted = fit(Fit(prompt, passages), _generator(window, tokenizer))
        except ContextOverflowError:
            continue
        assert all(passage.text in ("One two three. ", long, "The end.") for passage in fitted.taken), window
        cuts += len(fitted.taken) == 1
        alone = fit(Fit(prompt, passages[1:]), _generator(window, tokenizer))
        assert alone.taken[0].text and long.startswith(alone.taken[0].text)
    assert cuts


def test_a_passage_of_one_sentence_that_counts_for_more_than_was_thought_is_left_whole() -> None:
    """With counts that do not add up, what does not fit after all is put back, not halved."""
    texts = [f"Sentence {number} of words that go on and on and on and on" for number in range(12)]
    for window in range(60, 400, 3):
        generator = _generator(window, Growing())
        try:
            fitted = fit(Fit(Prompt("q", max_tokens=5), _passages(texts)), generator)
        except ContextOverflowError:
            continue
        assert len(fitted.taken) == 1 or all(passage.text in texts for passage in fitted.taken)
