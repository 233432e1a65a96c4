#!/usr/bin/env bash
# Install one wheel into an empty environment and use it from another folder, without a network:
#     scripts/check_wheel.sh dist/carrel-0.1.0-py3-none-any.whl
set -euo pipefail

python=${PYTHON:-python3}
wheel=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" - "$wheel" <<'PY'
import sys
import zipfile

names = set(zipfile.ZipFile(sys.argv[1]).namelist())
needed = {
    "carrel/py.typed",
    *(f"carrel/models/minilm/{name}" for name in ("model.onnx", "tokenizer.json", "provenance.json")),
}
foreign = sorted(name for name in names if not name.startswith("carrel"))
if missing := needed - names:
    sys.exit(f"the wheel lacks {sorted(missing)}")
if foreign:
    sys.exit(f"the wheel holds what it should not: {foreign[:5]}")
PY

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$wheel"
if "$work/venv/bin/python" -c "import torch" 2>/dev/null; then
    echo "the core installs torch" >&2
    exit 1
fi

# Without a network: a namespace of its own where the system allows one, refused proxies in any case.
offline=()
if unshare --net true 2>/dev/null; then
    offline=(unshare --net)
elif unshare --map-root-user --net true 2>/dev/null; then
    offline=(unshare --map-root-user --net)
else
    echo "note: no network namespace here; relying on refused proxies" >&2
fi
carrel() {
    "${offline[@]}" env -i PATH="$work/venv/bin:/usr/bin:/bin" HOME="$work" LANG=C.UTF-8 CARREL_LIBRARY="$work/library" \
        http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 "$work/venv/bin/carrel" "$@"
}

mkdir "$work/elsewhere"
cd "$work/elsewhere"
cat > lighthouse.txt <<'TEXT'
The lighthouse at Greyhorn was lit for the first time on 3 October 1871.

Its lamp burned rape oil until 1924, when electricity reached the point. The keeper was paid
forty crowns a year and a load of coal.
TEXT

carrel add lighthouse.txt
carrel ask --json "When was the lighthouse first lit?" > answer.json
"$work/venv/bin/python" - <<'PY'
import json
import pathlib

answer = json.loads(pathlib.Path("answer.json").read_text(encoding="utf-8"))
text = pathlib.Path("lighthouse.txt").read_text(encoding="utf-8")
assert answer["citations"], answer
for citation in answer["citations"]:
    assert text[citation["start"] : citation["end"]] == citation["quote"], citation
assert any("1871" in citation["quote"] for citation in answer["citations"]), answer
print(f"the wheel answers offline, with {len(answer['citations'])} verified citation(s)")
PY
