"""Long dialogues with questions about them, read from a folder of two JSON-lines files.

``turns.jsonl.gz`` holds one turn a line, ``{"id", "session", "when", "speaker", "text", "image_caption"?}``, in order;
``queries.jsonl.gz`` one question a line, ``{"id", "question", "answers", "kind", "evidence": [turn ids]}``. Both may
also be plain ``.jsonl``. ``when`` is a time such as "1:56 pm on 8 May, 2023", or ISO 8601; without a zone it is UTC.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from carrel.embeddings.base import digest
from carrel.errors import InputError
from carrel.evaluation.datasets import _find_file, _Line, _read_lines
from carrel.memory.base import StoredTurn
from carrel.memory.importance import importance

_WHEN = "%I:%M %p on %d %B, %Y"
_SEPARATORS = re.compile(r"[;,\s]+")
ADVERSARIAL = "adversarial"
_SECONDS_BETWEEN_TURNS = 1.0


@dataclass(frozen=True, slots=True)
class DialogueQuestion:
    """A question with the ids of the turns that answer it; an adversarial one has no answer in the dialogue."""

    id: str
    text: str
    kind: str
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One long conversation and the questions about it."""

    name: str
    turns: list[StoredTurn]
    questions: list[DialogueQuestion]

    @property
    def ends_at(self) -> float:
        """When the last turn was said."""
        return max(turn.said_at for turn in self.turns)

    @property
    def fingerprint(self) -> str:
        """Of its turns: equal fingerprints, equal dialogues."""
        return digest(*(part for turn in self.turns for part in (turn.speaker, turn.text)))


def load_dialogue(folder: str | os.PathLike[str]) -> Dialogue:
    """Read a dialogue; it is named after its folder. Ids of turns become their places, from 1.

    A photo that is shown with a turn is told at its end, "(shares a photo: ...)", by its caption. Evidence that names
    no turn is left out.

    Raises
    ------
    InputError : a file is missing, or a line is malformed (the message names file and line).
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"There is no dialogue folder {str(path)!r}.")
    places: dict[str, int] = {}
    turns: list[StoredTurn] = []
    last = 0.0
    for line in _read_lines(_find_file(path, "turns")):
        name = line.get("id", str)
        if name in places:
            raise line.error(f"the turn id {name!r} was used before")
        places[name] = len(turns) + 1
        said_at = _when(line)
        last = said_at if not turns or said_at > last else last + _SECONDS_BETWEEN_TURNS
        text = line.get("text", str)
        caption = line.get("image_caption", str, "")
        if caption:
            text = f"{text} (shares a photo: {caption.removeprefix('a photo of ').removeprefix('a photography of ')})"
        session = str(line.values.get("session", ""))
        turns.append(StoredTurn(len(turns) + 1, session, line.get("speaker", str), text, last, importance(text)))
    if not turns:
        raise InputError(f"{path} holds no turns.")
    return Dialogue(path.resolve().name, turns, _questions(path, places))


def _when(line: _Line) -> float:
    text = line.get("when", str)
    try:
        when = datetime.strptime(text, _WHEN)
    except ValueError:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise line.error(f"'when' is {text!r}, not a time such as '1:56 pm on 8 May, 2023' or ISO 8601") from None
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def _questions(path: Path, places: dict[str, int]) -> list[DialogueQuestion]:
    found: list[DialogueQuestion] = []
    for line in _read_lines(_find_file(path, "queries")):
        evidence: list[object] = line.get("evidence", list, [])
        if not all(isinstance(item, str) for item in evidence):
            raise line.error("'evidence' must be a list of turn ids")
        named = (name for item in evidence for name in _SEPARATORS.split(str(item)))
        ids = dict.fromkeys(places[name] for name in named if name in places)
        text = line.get("question", str)
        if not text.strip():
            raise line.error("'question' is empty")
        found.append(DialogueQuestion(line.get("id", str, ""), text, line.get("kind", str, ""), tuple(ids)))
    if not found:
        raise InputError(f"{path} holds no questions.")
    return found


def load_dialogues(folder: str | os.PathLike[str], names: tuple[str, ...] = ()) -> list[Dialogue]:
    """The dialogues in the folders below one, by name; or those named; or the folder itself where it is one.

    Raises
    ------
    InputError : there is none, or as `load_dialogue`.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"There is no folder {str(path)!r}.")
    for root in (path / "dialogues", path):
        inside = sorted(each for each in root.glob("*/") if any(each.glob("turns.jsonl*")))
        if inside:
            missing = sorted(set(names) - {each.name for each in inside})
            if missing:
                known = ", ".join(each.name for each in inside)
                raise InputError(f"There is no dialogue {missing[0]!r} in {root}; there are {known}.")
            return [load_dialogue(each) for each in inside if not names or each.name in names]
    if any(path.glob("turns.jsonl*")):
        return [load_dialogue(path)]
    raise InputError(f"{path} holds no dialogue: a folder with turns.jsonl.gz and queries.jsonl.gz is expected.")
