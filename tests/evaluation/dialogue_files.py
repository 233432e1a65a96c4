"""A small dialogue of our own, as files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

SESSIONS = (
    ("1:56 pm on 8 May, 2023", (
        ("Ann", "Hi Bob, how are you?"),
        ("Bob", "Fine! I started to build a wooden boat yesterday."),
        ("Ann", "Great. I joined the harbour choir last week, we sing shanties."),
        ("Bob", "Do you like it?"),
        ("Ann", "Very much, the conductor is called Ruth."),
    )),
    ("9:05 am on 2 July, 2023", (
        ("Bob", "The boat is ready, I named it Heron."),
        ("Ann", "Look at my new bicycle!"),
        ("Bob", "Nice, a green one."),
        ("Ann", "My sister Clara moved to Lisbon in June."),
    )),
)  # fmt: skip
QUESTIONS: tuple[tuple[str, str, list[str]], ...] = (
    ("When did Ann join the choir?", "temporal", ["D1:3"]),
    ("What is Bob's boat called?", "single-hop", ["D2:1"]),
    ("What did Ann tell of music and travel?", "multi-hop", ["D1:3; D2:4"]),
    ("What is Ann's boat called?", "adversarial", ["D2:1"]),
    ("Would Ann like opera?", "open-domain", []),
)


def turns() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for session, (when, said) in enumerate(SESSIONS, start=1):
        for number, (speaker, text) in enumerate(said, start=1):
            caption = "a photo of a green bicycle" if "bicycle" in text else None
            rows.append({"id": f"D{session}:{number}", "session": session, "when": when, "speaker": speaker,
                         "text": text, "image_caption": caption})  # fmt: skip
    return rows


def queries() -> list[dict[str, Any]]:
    return [
        {"id": f"q{number}", "question": text, "answers": [], "kind": kind, "evidence": evidence}
        for number, (text, kind, evidence) in enumerate(QUESTIONS)
    ]


def write(folder: Path, *, turn_rows: Any = None, query_rows: Any = None, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("turns", turn_rows or turns()), ("queries", query_rows or queries())):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if packed:
            with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.write(text)
        else:
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder
