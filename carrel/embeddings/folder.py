"""What the folder of an embedding model says of it: modules, pooling, prompts, window, languages, hashes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from carrel.embeddings.base import digest
from carrel.embeddings.instructions import Prompts, declared
from carrel.errors import InputError, ModelError

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The ways from token states to one vector, by their names in sentence-transformers."""
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_FIRST_POSITION_AFTER_PAD = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl"})
_MOST_TOKENS = 10_000_000  # a tokenizer without a limit gives a number far above it
_ONE_LANGUAGE = re.compile(r"^language:[ \t]*(?:\n[ \t]*-[ \t]*)?['\"]?([a-z]{2,3})['\"]?[ \t]*$", re.MULTILINE)
_NAMES = {"en": "English", "eng": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}


class ModelFolder:
    """A folder as sentence-transformers and its exporters write it.

    Raises
    ------
    ModelError : there is no such folder, or a file in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ModelError(f"there is no folder {path}. Name the folder that holds the model's files.")
        self.path = path

    def json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file; empty where there is no such file."""
        found = self._read(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise ModelError(f"{self.path / name} is damaged: it is no JSON object. Get the model's files anew.")
        return found

    def _read(self, name: str) -> Any:
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {file}: {error}. Get the model's files anew.") from error

    @cached_property
    def modules(self) -> list[tuple[str, str]]:
        """(kind, folder inside) of each module in order, from modules.json; empty where there is none."""
        found = self._read("modules.json")
        try:
            rows = sorted(found or [], key=lambda row: row.get("idx", 0))
            return [(str(row["type"]).rpartition(".")[2], str(row.get("path", ""))) for row in rows]
        except (TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{self.path / 'modules.json'} is no list of modules. Get the model's files anew."
            ) from error

    @cached_property
    def _pooling_config(self) -> dict[str, Any]:
        place = next((path for kind, path in self.modules if kind == "Pooling"), "1_Pooling")
        return self.json(f"{place}/config.json")

    @property
    def pooling(self) -> tuple[str, ...]:
        """The declared ways of pooling, their results one after the other; empty where none is declared."""
        config = self._pooling_config
        found = config.get("pooling_mode")
        if found is None:
            return tuple(mode for flag, mode in _FLAGS.items() if config.get(flag))
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def pools_prompts(self) -> bool:
        """Whether the tokens of a prompt count for the vector."""
        return bool(self._pooling_config.get("include_prompt", True))

    @property
    def prompts(self) -> Prompts:
        config = self.json("config_sentence_transformers.json")
        names = config.get("prompts")
        default = config.get("default_prompt_name")
        return declared(names if isinstance(names, Mapping) else {}, default if isinstance(default, str) else None)

    @cached_property
    def transformer(self) -> str:
        """Where the transformer's own files are, inside the folder."""
        return self.modules[0][1] if self.modules else ""

    @property
    def window(self) -> int | None:
        """The most tokens of one pass, special tokens included; None where no file says it."""
        own = f"{self.transformer}/" if self.transformer else ""
        declared_length = self.json(f"{own}sentence_bert_config.json").get("max_seq_length")
        config = self.json(f"{own}config.json")
        positions = config.get("max_position_embeddings")
        if isinstance(positions, int) and config.get("model_type") in _FIRST_POSITION_AFTER_PAD:
            positions -= int(config.get("pad_token_id") or 0) + 1
        of_tokenizer = self.json(f"{own}tokenizer_config.json").get("model_max_length")
        if (most := _limit(declared_length)) is not None:
            return min(most, _limit(positions) or most)
        return min((limit for limit in map(_limit, (positions, of_tokenizer)) if limit is not None), default=None)

    @property
    def languages(self) -> frozenset[str]:
        """The one language that the model's card names; empty where it names none, or several: any."""
        try:
            card = (self.path / "README.md").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return frozenset()
        head = card[3:].partition("\n---")[0] if card.startswith("---") else ""
        match = _ONE_LANGUAGE.search(head)
        several = match is not None and re.match(r"\s*\n[ \t]*-", head[match.end() :])
        return frozenset({_NAMES[match[1]]}) if match and not several and match[1] in _NAMES else frozenset()

    def fingerprint(self, files: Iterable[Path]) -> str:
        """Hash of the names, inside the folder, and contents of files."""
        parts: list[str] = []
        for file in sorted(set(files)):
            try:
                facts = file.stat()
                parts += [file.relative_to(self.path).as_posix(), _hash(file, facts.st_size, facts.st_mtime_ns)]
            except OSError as error:
                raise ModelError(f"cannot read {file}: {error.strerror or error}") from error
        return digest(*parts)

    def declarations(self) -> list[Path]:
        """The files that say how the model is to be used: what a fingerprint rests on beside the weights."""
        places = {"", *(path for _, path in self.modules)}
        return [
            file
            for place in places
            for pattern in ("*.json", "*.txt", "*.model", "*.py")
            for file in (self.path / place).glob(pattern)
            if file.is_file()
        ]


def checked_pooling(pooling: str | None) -> str | None:
    """The value, if it is a way of pooling or None.

    Raises
    ------
    InputError
    """
    if pooling is not None and pooling not in POOLINGS:
        raise InputError(f"pooling is one of {', '.join(POOLINGS)}, not {pooling!r}")
    return pooling


def _limit(value: object) -> int | None:
    """A number of tokens; None for what is none, or means that there is no limit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST_TOKENS:
        return int(value)
    return None


@lru_cache(maxsize=256)
def _hash(file: Path, size_bytes: int, changed_ns: int) -> str:
    """Hash of a file, made once as long as its size and its time of change stay (they are part of the key)."""
    state = hashlib.blake2b(digest_size=16)
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            state.update(block)
    return f"{size_bytes}:{state.hexdigest()}"
