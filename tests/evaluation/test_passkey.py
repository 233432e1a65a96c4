"""Needle and passkey tasks: their lengths, their facts and depths, and the score with its ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InputError
from carrel.evaluation.passkey import GRASS, LENGTHS, Task, accuracy, needle_task, passkey_task, score
from carrel.testing import HashEncoder
from carrel.testing.tokenizers import WordTokenizer

WORDS = WordTokenizer()
HAYSTACK = ["Whales sleep upright.", "Salt is heavier than it looks, as every cook knows.", "Trains are late in May."]


def made(kind: str, length: int, **given: int) -> Task:
    if kind == "passkey":
        return passkey_task(length, WORDS, **given)
    return needle_task(length, WORDS, HAYSTACK, **given)


@pytest.mark.parametrize("kind", ["passkey", "needle"])
@given(length=st.integers(40, 600), seed=st.integers(0, 5))
def test_documents_have_the_length_asked_for_and_hold_their_fact_once(kind, length, seed) -> None:
    task = made(kind, length, documents=8, questions=4, seed=seed)
    longest = max(WORDS.count(sentence) for sentence in (GRASS if kind == "passkey" else HAYSTACK))
    assert len(task.documents) == len(task.depths) == 8 and len(task.questions) == len(set(task.gold)) == 4
    assert len({document.text for document in task.documents}) == 8
    for document, depth in zip(task.documents, task.depths, strict=True):
        assert length - longest < WORDS.count(document.text) <= length
        assert 0 <= depth <= 1
    for question, gold in zip(task.questions, task.gold, strict=True):
        name = question.split("pass key for ")[1].rstrip("?") if kind == "passkey" else None
        if name is not None:
            assert [name in document.text for document in task.documents].index(True) == gold
            assert sum(name in document.text for document in task.documents) == 1


def test_all_that_differs_between_documents_is_the_fact_and_its_place() -> None:
    for kind in ("passkey", "needle"):
        for document in made(kind, 300, documents=20, questions=5).documents:
            sentences = GRASS if kind == "passkey" else HAYSTACK
            left = document.text
            for sentence in sentences:
                left = left.replace(sentence, "")
            assert 4 < len(left.split()) < 40  # the fact alone


def test_depths_are_spread_and_lengths_go_to_32768() -> None:
    task = passkey_task(2048, WORDS)
    assert (len(task.documents), len(task.questions), LENGTHS[0], LENGTHS[-1]) == (100, 50, 256, 32_768)
    assert min(task.depths) < 0.1 < 0.4 < np.mean(task.depths) < 0.6 < 0.9 < max(task.depths)
    for document, depth in zip(task.documents, task.depths, strict=True):
        assert document.text.index("pass key") / len(document.text) == pytest.approx(depth, abs=0.03)


def test_a_seed_gives_the_same_task_and_another_another() -> None:
    for kind in ("passkey", "needle"):
        assert made(kind, 200, seed=1) == made(kind, 200, seed=1)
        assert made(kind, 200, seed=1).questions != made(kind, 200, seed=2).questions


def test_the_names_and_keys_stay_from_length_to_length() -> None:
    one, other = passkey_task(100, WORDS), passkey_task(200, WORDS)
    key = one.documents[3].text.split("pass key is ")[1][:5]
    assert key in other.documents[3].text and key.isdigit()


def test_words_find_what_they_name_and_truncation_guesses() -> None:
    class First(HashEncoder):
        """The first twenty words."""

        def encode_texts(self, texts):
            return super().encode_texts([" ".join(text.split()[:20]) for text in texts])

    task = passkey_task(100, WORDS, documents=20, questions=20)
    assert score(task, HashEncoder(1024)).mean() > 0.9
    seen = [" ".join(document.text.split()[:20]) for document in task.documents]
    hidden = [place for place, text in enumerate(seen) if "pass" not in text]
    points = score(task, First(1024))
    assert 8 < len(hidden) < 20
    assert all(points[number] < 0.2 for number, gold in enumerate(task.gold) if gold in hidden)


def test_the_point_is_shared_among_documents_that_tie() -> None:
    similarities = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.3, 0.3], [0.9, 0.1, 0.2], [0.2, 0.4, 0.4]])
    assert accuracy(similarities, [0, 1, 2, 1, 0]).tolist() == pytest.approx([1, 0.5, 1 / 3, 0, 0])


def test_the_best_of_several_vectors_counts() -> None:
    class Halves(HashEncoder):
        """A vector for each half of a document."""

        def encode(self, document, chunks):
            text = document.text
            return [self.encode_texts([text[: len(text) // 2], text[len(text) // 2 :]]) for _ in chunks]

    task = passkey_task(160, WORDS, documents=10, questions=10)
    encoder = Halves(256)
    questions = encoder.encode_queries(task.questions)
    documents = [encoder.encode(document, [None])[0] for document in task.documents]
    best = [[max(vectors @ question) for vectors in documents] for question in questions]
    assert score(task, encoder).tolist() == accuracy(np.array(best), task.gold).tolist()


@pytest.mark.parametrize(("arguments", "said"), [
    ({"documents": 401}, "1 to 400"), ({"documents": 0}, "1 to 400"), ({"questions": 101}, "1 to 100"),
    ({"questions": 0}, "1 to 100"), ({"length": 5}, "longer than"),
])  # fmt: skip
def test_what_cannot_be_made_is_refused(arguments, said) -> None:
    with pytest.raises(InputError, match=said):
        passkey_task(**{"length": 300, "tokenizer": WORDS, **arguments})


def test_a_haystack_without_words_is_refused() -> None:
    for haystack in ([], ["", " "]):
        with pytest.raises(InputError, match="filler has no tokens"):
            needle_task(300, WORDS, haystack)
