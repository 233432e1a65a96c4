"""The reader's training scripts as modules, and a data folder in their format, made up here."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from carrel.retrieval.sentences import split_sentences

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "training" / name) for name in ("reader", "minilm")]  # they import each other by bare names

FIRST = "Ada Bruno Clara Dimitri Elena Farid Greta Hugo Irina Jonas Karin Leon Mira Nadia Oskar Paula".split()
LAST = "Alder Brandt Castell Dorn Egger Falk Garland Holm Ilves Jansen Kessler Lindt Moreau Novak".split()
START = "Bel Cor Dun El Far Gold Hal Iver Kings Lang Mont North Oak Pend Ravens Stan Thorn Wex".split()
END = "bury dale ford gate haven holm mere mouth stead ton wick worth".split()
RIVERS = "Arno Brenn Calder Drave Esk Fulda Garonne Isar Kenn Lune Medway Nore Orne Swale Tamar Yare".split()
CRAFTS = "glass clocks lace paper pottery rope saddles salt silk soap tiles violins wool".split()
FESTS = "harvest lantern kite boat cherry music horse book".split()
Row = dict[str, Any]


def article(chance: random.Random) -> tuple[str, str, list[tuple[str, str]], list[str]]:
    """A town: (title, text, (question, answer) pairs, questions that the text does not answer)."""
    town = chance.choice(START) + chance.choice(END)
    founder, mayor = (f"{chance.choice(FIRST)} {chance.choice(LAST)}" for _ in range(2))
    year, people = str(chance.randint(1100, 1899)), f"{chance.randint(2, 98)},{chance.randint(100, 999)}"
    river, craft, feast = chance.choice(RIVERS), chance.choice(CRAFTS), chance.choice(FESTS)
    facts = [
        (f"{town} lies on the river {river}.", f"Which river does {town} lie on?", river),
        (f"The town was founded by {founder} after a long war.", f"Who founded {town}?", founder),
        (f"Its first walls were built in {year}.", f"When were the first walls of {town} built?", year),
        (f"About {people} people live there today.", f"How many people live in {town}?", people),
        (f"For centuries its workshops have made {craft} for the whole country.", f"What is made in {town}?", craft),
        (f"Every summer a {feast} festival fills the streets.", f"Which festival is held in {town}?", feast),
        (f"The mayor, {mayor}, has promised a new bridge.", f"Who is the mayor of {town}?", mayor),
    ]
    told = chance.sample(facts, 5)
    silent = [question for fact, question, _ in facts if fact not in {sentence for sentence, _, _ in told}]
    text = " ".join(sentence for sentence, _, _ in told)
    return town, text, [(question, answer) for _, question, answer in told], silent


def squad_rows(count: int, chance: random.Random, titles: int = 6, unanswerable: bool = True) -> list[Row]:
    """Rows in the manner of SQuAD 2.0; those of an article share a title, as in the real file."""
    rows: list[Row] = []
    while len(rows) < count:
        _, text, asked, silent = article(chance)
        title = f"County_{len(rows) * titles // count}"
        for question, answer in asked[:2]:
            rows.append(row(question, text, [(answer, text.index(answer))], title, len(rows)))
        if unanswerable:
            rows += [row(question, text, [], title, len(rows) + index) for index, question in enumerate(silent)]
    return rows


def row(question: str, text: str, answers: Iterable[tuple[str, int]], title: str, number: int) -> Row:
    found = [{"text": answer, "start": start} for answer, start in answers]
    return {"id": f"{title}-{number}", "title": title, "question": question, "context": text, "answers": found}


def natural_rows(count: int, chance: random.Random) -> list[Row]:
    """Rows in the manner of QED: questions as typed into a search engine, each of its own article."""
    rows = []
    for number in range(count):
        town, text, asked, _ = article(chance)
        question, answer = asked[0]
        made = row(question.lower().rstrip("?"), text, [(answer, text.index(answer))], f"{town} {number}", number)
        starts = [span.start for span in split_sentences(text)]
        place = max(start for start in starts if start <= text.index(answer))
        end = min((start for start in starts if start > place), default=len(text))
        chosen = {"start": place, "end": end, "string": text[place:end]}
        rows.append({**made, "sentence_starts": starts, "selected_sentence": chosen})
    return rows


def review_rows(count: int, chance: random.Random) -> list[Row]:
    """Opinions, half of the questions without an answer, no titles."""
    rows = []
    for number in range(count):
        good, bad = chance.sample(["the staff", "the soup", "the room", "the view", "the price", "the garden"], 2)
        praise = chance.choice(["quite wonderful", "better than ever", "a real joy"])
        text = f"We stayed two nights. I must say {good} was {praise}. We would come again."
        wanted = [(praise, text.index(praise))] if number % 2 == 0 else []
        made = row(f"How was {good if wanted else bad}?", text, wanted, "review", number)
        del made["title"]
        rows.append(made)
    return rows


def pair_rows(count: int, chance: random.Random) -> list[Row]:
    """A sentence and a question in lower case, without their paragraph."""
    rows = []
    for _ in range(count):
        _, text, asked, _ = article(chance)
        question, answer = chance.choice(asked)
        sentence = next(s for s in split_sentences(text) if answer in text[s.start : s.end])
        rows.append({"question": question.lower(), "sentence": text[sentence.start : sentence.end].strip().lower()})
    return rows


def write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"answerable": bool(r.get("answers")), **r}) + "\n" for r in rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with train/ and reader_dev/."""
    folder, chance = tmp_path_factory.mktemp("data"), random.Random(7)
    first = [{**r, "id": f"first-{r['id']}"} for r in squad_rows(40, chance, unanswerable=False)]
    for made in first:
        del made["title"]  # as in the file of SQuAD 1.1
    write(folder / "train" / "squad1.jsonl.gz", first)
    write(folder / "train" / "squad2.jsonl.gz", squad_rows(60, chance))
    write(folder / "train" / "nq_qed.jsonl.gz", natural_rows(50, chance))
    write(folder / "train" / "squad_sentences.jsonl.gz", pair_rows(40, chance))
    write(folder / "reader_dev" / "squad2.jsonl.gz", squad_rows(24, chance))
    write(folder / "reader_dev" / "nq_qed.jsonl.gz", natural_rows(16, chance))
    write(folder / "reader_dev" / "subjqa.jsonl.gz", review_rows(16, chance))
    return folder
