#!/bin/sh
# The main job on real documents: index a folder, then ask. The library is temporary.
set -eu
cd "$(dirname "$0")/.."
CARREL_LIBRARY=$(mktemp -d)/library
export CARREL_LIBRARY
trap 'rm -rf "$(dirname "$CARREL_LIBRARY")"' EXIT

run() {
    printf '\n$ carrel'
    for word in "$@"; do
        case $word in *" "*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    carrel "$@"
}

run add examples/library docs
run ask "When was Greyhorn Light first lit?"
run ask "What did Tarn & Quill Works ask for dredging Kittow Channel?"
run ask "How many passengers did the Maren Tyde carry in 2023?"
run ask "Where does adaptive-k cut?"
printf '\nThe documents do not answer the next one, and the exit code says so (3):\n'
run ask "How many parking spaces are there at the harbour gate?" || [ $? -eq 3 ]
