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

run add examples/library
run ask "When did the lifeboat launch for the Three Sisters?"
run ask "At what wind speed does the quay crane stop lifting?"
run ask "What does pilotage cost in 2024?"
printf '\nThe documents do not answer the next one:\n'
run ask "Who won the chess championship of 1986?"
