"""Make the shipped embedder again from its source and compare it, byte for byte, with what is shipped."""

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
FILES = ("model.onnx", "tokenizer.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    provenance = json.loads((SHIPPED / "provenance.json").read_text(encoding="utf-8"))
    bits = re.search(r"(\d+)-bit", provenance["precision"])
    if bits is None:
        sys.exit(f"provenance.json does not say how many bits the weights have: {provenance['precision']!r}")
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "training" / "minilm" / "export.py"
        command = [sys.executable, str(script), "--out", folder, "--weight-bits", bits[1], *sys.argv[1:]]
        subprocess.run(command, check=True)
        made = {name: sha256(Path(folder) / name) for name in FILES}
    wrong = [name for name in FILES if not made[name] == sha256(SHIPPED / name) == provenance["files_sha256"][name]]
    for name in FILES:
        print(f"{name}: {'differs from what is shipped' if name in wrong else 'as shipped'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
