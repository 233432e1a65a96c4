"""From logits to text: the next token, words as they become whole, and where to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrel.errors import GenerationError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNFINISHED = "\ufffd"  # what a decoder writes for the first bytes of a character
_BEHIND = 6  # tokens decoded again, so that the next piece is spaced as in the whole text


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token with the logarithm of its probability at temperature 1."""

    token: int
    logprob: float


@dataclass
class Reply:
    """A reply as it comes, with what was measured on the way."""

    text: str = ""
    tokens: int = 0
    reason: str = "length"
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """Seconds to the first token, and from there to now."""
        return {"first_token_s": self.first_s, "decode_s": time.perf_counter() - self.began - self.first_s}


class Sampler:
    """Picks the next token.

    Parameters
    ----------
    temperature : 0 takes the likeliest. seed : of the draws; None for another one each time.
    """

    def __init__(self, temperature: float, seed: int | None) -> None:
        self.temperature = temperature
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def pick(self, logits: Tensor) -> Chosen:
        """From logits, (V,)."""
        logprobs = logits.log_softmax(-1)
        if bool(torch.isnan(logprobs[0])):  # one number that is none makes all of them so
            raise GenerationError("the model's output is no numbers (NaN): try another dtype, such as float32")
        if self.temperature == 0:
            token = int(logits.argmax())
        else:
            weights = (logits.double() / self.temperature).softmax(-1).cpu()
            token = int(torch.multinomial(weights, 1, generator=self._generator))
        return Chosen(token, float(logprobs[token]))


class Speech:
    """The text of a reply as its tokens come. What might be the beginning of a stop text is held back until it is not.

    Parameters
    ----------
    decode : the text of token ids, without special tokens.
    stop : texts that end a reply and are no part of it.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, [text for text in stop if text]
        self._tokens: list[int] = []
        self._first = self._spoken = 0  # of the tokens: where decoding begins, and how many have been said
        self._pending = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that this token makes sure of; often one word, sometimes none."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._first : self._spoken])
        text = self._decode(self._tokens[self._first :])
        if text.endswith(_UNFINISHED):
            return ""
        self._first, self._spoken = max(0, len(self._tokens) - _BEHIND), len(self._tokens)
        return self._release(text[len(before) :])

    def end(self) -> str:
        """What was held back, once no token follows."""
        before = self._decode(self._tokens[self._first : self._spoken])
        rest = self._decode(self._tokens[self._first :])[len(before) :]
        text = self._release(rest) + ("" if self.stopped else self._pending)
        self._spoken, self._pending = len(self._tokens), ""
        return text

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._pending += text
        found = [place for stop in self._stop if (place := self._pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            out, self._pending = self._pending[: min(found)], ""
            return out
        held = max((_overlap(self._pending, stop) for stop in self._stop), default=0)
        out = self._pending[: len(self._pending) - held]
        self._pending = self._pending[len(out) :]
        return out


def spoken(
    reply: Reply,
    room: int,
    logits: Callable[[], Tensor],
    take: Callable[[int], None],
    *,
    sampler: Sampler,
    speech: Speech,
    ends: frozenset[int],
    name: Callable[[int], str] | None = None,
) -> Iterator[str]:
    """A reply piece by piece; ``reply`` is all of it at the end.

    Parameters
    ----------
    room : the most tokens. logits : of what comes next, (V,). take : is given every token but the one that ends.
    ends : the tokens that end a reply. name : of a token, where the logarithms of the probabilities are wanted.
    """
    while reply.tokens < room:
        chosen = sampler.pick(logits())
        reply.first_s = reply.first_s or time.perf_counter() - reply.began
        reply.tokens += 1
        if name is not None:
            reply.logprobs.append((name(chosen.token), chosen.logprob))
        if chosen.token in ends:
            reply.reason = "stop"
            break
        take(chosen.token)
        if piece := speech.add(chosen.token):
            reply.text += piece
            yield piece
        if speech.stopped:
            reply.reason = "stop"
            break
    if piece := speech.end():
        reply.text += piece
        yield piece


def ends_of(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply: those of the model's generation settings, else the tokenizer's."""
    found = getattr(model.generation_config, "eos_token_id", None)
    found = tokenizer.eos_token_id if found is None else found
    return frozenset([] if found is None else [found] if isinstance(found, int) else found)


def _overlap(text: str, stop: str) -> int:
    """The longest end of a text that a stop text begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
