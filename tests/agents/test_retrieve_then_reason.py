import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents import plan, run
from carrel.agents.fitting import reply_room
from carrel.agents.retrieve_then_reason import retrieve_then_reason
from carrel.errors import ContextOverflowError, InputError, RefusalError, ReplyFormatError
from carrel.generation.extractive import ABSTENTION
from carrel.testing.fakes import FakeGenerator
from carrel.testing.flows import FlowConformance
from carrel.types import Citation, Completion, Document, Passage

_QUESTION = "When was the pier built?"
_PIER = Document(
    "The pier was built in 1894 by the harbour company. It is ninety metres long.\n\n"
    + "Gulls nest upon the northern roof all summer long.\n\n" * 30
    + "The old pier burnt down in 1890 during a great storm.\n",
    id="pier",
    title="Pier",
)


def _quoting(prompt, extra=""):
    """Quotes the sentences about the pier, and reasons from the first fact."""
    if prompt.kind == "answer":
        return f"{prompt.passages[0].text} [1]"
    found = [
        f'[{number}] "{" ".join(sentence.split())}"'
        for number, passage in enumerate(prompt.passages, start=1)
        for sentence in re.findall(r"[^.]*pier[^.]*\.", passage.text)
    ]
    return "\n".join([*found, extra]).strip() or "NOTHING"


def _ran(script, *, texts=_PIER, window=400, question=_QUESTION, **keywords):
    generator = FakeGenerator(script, context_window=window)
    flow = retrieve_then_reason(question, texts, **keywords)
    return run(flow, generator=generator, mode="fast").result, generator


class TestConformance(FlowConformance):
    window = 400

    def make(self):
        return retrieve_then_reason(_QUESTION, budget=300)

    def reply(self, prompt):
        return _quoting(prompt)

    def documents(self):
        return [_PIER, Document("The ferry leaves at nine. The pier is wet.", id="ferry")]


def test_facts_are_quoted_piece_by_piece_and_reasoned_over_alone():
    result, generator = _ran(_quoting, facts_tokens=100)
    assert result.pieces > 1 and not result.skipped and not result.hallucinated and result.left_out == 0
    assert [fact.text for fact in result.facts] == [
        "The pier was built in 1894 by the harbour company.",
        "The old pier burnt down in 1890 during a great storm.",
    ]
    assert all(_PIER.text[fact.start : fact.end] == fact.text for fact in result.facts)
    assert generator.prompts[-1].passages == result.facts == result.answer.passages
    (citation,) = result.answer.citations
    assert _PIER.text[citation.start : citation.end] == citation.quote == result.facts[0].text


def test_what_stands_nowhere_is_dropped_and_reported():
    result, _ = _ran(lambda prompt: _quoting(prompt, '[1] "The pier was built in 1904 by pirates."'), window=2000)
    assert len(result.facts) == 2
    assert result.hallucinated == ("The pier was built in 1904 by pirates.",)


@pytest.mark.parametrize("reply", ["NOTHING", ABSTENTION, '[1] "The moon is made of green cheese."'])
def test_without_facts_nothing_is_reasoned(reply):
    result, generator = _ran([reply], window=2000)
    assert result.answer.abstained and result.answer.text == ABSTENTION and not result.facts
    assert len(generator.prompts) == 1 and len(result.hallucinated) == reply.count("moon")


def test_a_reply_of_the_wrong_form_is_asked_for_once_more():
    first = "I think the pier was built in 1894, though I am not certain."
    result, generator = _ran([first, '[1] "The pier was built in 1894"', "It was built in 1894 [1]."], window=2000)
    assert len(result.facts) == 1 and result.answer.text == "It was built in 1894 [1]."
    assert "could not be used" in generator.prompts[1].notes[-1] and not generator.prompts[0].notes
    with pytest.raises(ReplyFormatError, match="twice"):
        _ran([first, first], window=2000)


def test_a_piece_that_cannot_be_read_does_not_lose_the_others():
    def script(prompt):
        if prompt.kind == "notes" and "1894" in prompt.passages[0].text:
            return Completion("I cannot help with that.", finish_reason="refused")
        return _quoting(prompt)

    result, _ = _ran(script, facts_tokens=100)
    assert [fact.text[:12] for fact in result.facts] == ["The old pier"]
    (skipped,) = result.skipped
    assert skipped.startswith("The pier was built in 1894") and "declined" in skipped


def test_where_every_piece_is_refused_it_is_an_error():
    with pytest.raises(RefusalError):
        _ran(Completion("No.", finish_reason="refused"))


def test_refused_reasoning_is_an_error():
    def script(prompt):
        return _quoting(prompt) if prompt.kind == "notes" else Completion("No.", finish_reason="refused")

    with pytest.raises(RefusalError):
        _ran(script)


def test_a_piece_that_turns_out_too_long_is_read_in_halves():
    sizes = []

    def script(prompt):
        if prompt.kind == "notes":
            sizes.append(len(prompt.passages))
            if len(prompt.passages) > 1:
                raise ContextOverflowError("too long after all")
        return _quoting(prompt)

    result, _ = _ran(script, window=2000)
    assert sizes[0] > 1 and sizes.count(1) == sizes[0] and len(result.facts) == 2 and not result.skipped
    with pytest.raises(ContextOverflowError):
        _ran(ContextOverflowError("always"), window=2000)


def test_one_passage_that_turns_out_too_long_is_read_by_its_sentences():
    sentences = [f"The pier of harbour {n} was built in {1890 + n}." for n in range(4)]

    def script(prompt):
        if prompt.kind == "notes" and sum(len(p.text) for p in prompt.passages) > 60:
            raise ContextOverflowError("the server counts otherwise")
        return _quoting(prompt)

    text = " ".join(sentences)
    result, _ = _ran(script, texts=Passage("d", 0, len(text), text))
    assert [fact.text for fact in result.facts] == sentences and not result.skipped
    assert all(text[fact.start : fact.end] == fact.text for fact in result.facts)


def test_facts_beyond_the_window_are_left_out_by_relevance():
    rows = [
        f"Gull {number} nests upon the northern roof beside the wall of the old lighthouse." for number in range(40)
    ]
    rows.insert(33, "The pier was built in 1894 by the harbour company of Port Ansel.")
    text = Document("\n\n".join(rows), id="gulls")

    def script(prompt):
        if prompt.kind == "answer":
            return "Done."
        return "\n".join(f'[{n}] "{s.strip()}"' for n, p in enumerate(prompt.passages, 1) for s in p.text.split("\n\n"))

    result, generator = _ran(script, texts=text)
    given = generator.prompts[-1].passages
    assert result.left_out > 0 and len(given) + result.left_out == len(result.facts) == 41
    assert any("1894" in fact.text for fact in given)
    assert [fact.start for fact in given] == sorted(fact.start for fact in given)


def test_citations_of_a_generator_are_its_facts_where_they_stand():
    whole, wrong = _PIER.text[:50], "The pier was built in 1904 by pirates."

    def script(prompt):
        if prompt.kind == "answer":
            return "1894 [1]."
        real = Citation(1, "pier", 0, 50, whole)
        return Completion(
            "…", citations=(real, Citation(1, "pier", 0, len(wrong), wrong), Citation(99, "x", 0, 1, "x"))
        )

    result, _ = _ran(script, window=2000)
    assert [fact.text for fact in result.facts] == [whole] and set(result.hallucinated) == {wrong, "x"}


def test_nothing_to_read_and_nothing_asked_are_errors():
    with pytest.raises(InputError):
        _ran("NOTHING", texts=Document("  ", id="empty"))
    with pytest.raises(InputError):
        _ran("NOTHING", question=" ")


def test_a_plan_counts_the_reasoning_too():
    generator = FakeGenerator("unused", context_window=400)
    planned = plan(retrieve_then_reason(_QUESTION, _PIER, facts_tokens=100), generator=generator, mode="fast")
    result, asked = _ran(_quoting, facts_tokens=100)
    assert planned.calls == result.pieces + 1 == len(asked.prompts) and planned.in_a_row == 2


@settings(max_examples=30)
@given(
    st.integers(1, 300), st.lists(st.integers(1, 400), min_size=1, max_size=4), st.integers(0, 300), st.integers(1, 300)
)
def test_no_prompt_goes_beyond_the_window(asked, lengths, said, room):
    texts = [
        Document(" ".join(f"w{n}x{i}" + "." * (i % 9 == 0) for i in range(length)), id=f"d{n}")
        for n, length in enumerate(lengths)
    ]
    generator = FakeGenerator(
        lambda prompt: f'[1] "{" ".join(prompt.passages[0].text.split()[:said])}"' if said else "talk",
        context_window=240,
    )
    try:
        flow = retrieve_then_reason("why " * asked, texts, facts_tokens=room)
        result = run(flow, generator=generator, mode="fast").result
        found = {text.id: text.text for text in texts}
        assert all(found[fact.document_id][fact.start : fact.end] == fact.text for fact in result.facts)
    except (ContextOverflowError, ReplyFormatError):
        assert asked > 20 or room > 20 or not said
    for prompt in generator.prompts:
        assert generator.prompt_tokens(prompt) + reply_room(prompt, 240) <= 240


def test_passages_may_be_given():
    text = "The pier was built in 1894 by the harbour company."
    result, _ = _ran(_quoting, texts=[Passage("pier", 5, 5 + len(text), text)])
    assert [fact.start for fact in result.facts] == [5]
