"""Promise 9: from the first import to the answer, with the shipped model, no socket is opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
events = []
def note(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.")):
        events.append(event)
sys.addaudithook(note)
import carrel
with carrel.open(sys.argv[1]) as library:
    library.add(sys.argv[2])
    answer = library.ask("When does the ferry leave?")
    assert "nine" in answer.text, answer.text
    library.doctor()
    library.sync(sys.argv[2])
    library.remove([info.id for info in library.documents()], purge=True)
assert events == [], events
import socket
socket.socket().close()
assert events == ["socket.__new__"], "the hook would have noticed nothing"
print("offline")
"""


def test_everything_works_without_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "ferry.md").write_text("# Ferry\n\nThe ferry leaves at nine in the morning.\n")
    (folder / "page.html").write_text(
        '<html><head><link href="http://example.org/x.css"></head><body><img src="http://example.org/x.png">'
        "<p>The pier was built in 1894.</p></body></html>"
    )
    unset = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "library"), str(folder)],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("offline", 0), done.stdout + done.stderr
