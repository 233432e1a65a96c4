"""Check the shipped models: the embedder is made again from its source and compared byte for byte.

To make the reader again takes hours of training; its files are compared with the hashes that the training wrote
into its provenance, and its figures with the model they were measured on. Without a reader there is nothing to check.
Arguments are passed on to training/minilm/export.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "carrel" / "models" / "minilm"
READER = ROOT / "carrel" / "models" / "reader"
RESULTS = ROOT / "training" / "reader" / "results.json"
FILES = ("model.onnx", "tokenizer.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def embedder_faults() -> list[str]:
    """What differs between the shipped embedder and one made again."""
    provenance = json.loads((SHIPPED / "provenance.json").read_text(encoding="utf-8"))
    bits = re.search(r"(\d+)-bit", provenance["precision"])
    if bits is None:
        sys.exit(f"provenance.json does not say how many bits the weights have: {provenance['precision']!r}")
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "training" / "minilm" / "export.py"
        command = [sys.executable, str(script), "--out", folder, "--weight-bits", bits[1], *sys.argv[1:]]
        subprocess.run(command, check=True)
        made = {name: sha256(Path(folder) / name) for name in FILES}
    shipped = {name: sha256(SHIPPED / name) for name in FILES}
    known = provenance["files_sha256"]
    return [f"{name} differs from what is shipped" for name in FILES if not made[name] == shipped[name] == known[name]]


def reader_faults(folder: Path, results: Path) -> list[str]:
    """Files of the reader that are missing or not those that its provenance and its figures are of."""
    provenance = folder / "provenance.json"
    if not provenance.exists():
        return ["provenance.json is missing"]
    known: dict[str, str] = json.loads(provenance.read_text(encoding="utf-8"))["files_sha256"]
    faults = [f"{name} has no hash in provenance.json" for name in FILES if name not in known]
    for name, wanted in known.items():
        if not (folder / name).exists():
            faults.append(f"{name} is missing")
        elif sha256(folder / name) != wanted:
            faults.append(f"{name} is not the one that provenance.json is of")
    if results.exists() and json.loads(results.read_text(encoding="utf-8"))["model"] != known.get("model.onnx"):
        faults.append(f"{results.name} has the figures of another model")
    return faults


def main() -> int:
    """Say what is wrong with each model; 1 when anything is."""
    faults = {"embedder": embedder_faults()}
    if READER.is_dir():
        faults["reader"] = reader_faults(READER, RESULTS)
    else:
        print("reader: not there, nothing to check")
    for name, found in faults.items():
        print(f"{name}: {'; '.join(found) or 'as shipped'}")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
