"""A conversation without end with a model in this process: each turn is read once, and the cache does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrel.errors import CarrelError, GenerationError, InputError, ModelError
from carrel.generation import replies
from carrel.generation.messages import finish_reason
from carrel.types import Completion, TextEvent, Usage

if TYPE_CHECKING:
    from carrel.generation.kv.streaming import RetentiveStream
    from carrel.generation.transformers_engine import TransformersGenerator
    from carrel.types import Event

_REPLY = "ANSWER-5F3A"  # stands for a reply, to see what a chat template writes after one


class Dialogue:
    """Talks to a generator's model turn by turn. What was said is kept as keys and values, at most ``budget`` a head.

    Nothing is read twice: a turn costs its own tokens, however long the conversation. What does not fit is forgotten;
    what surprised the model stays longest (SirLLM, arXiv 2405.12528; the knobs are those of
    carrel.generation.kv.streaming.RetentiveStream). For turns that must not be lost, there is the memory that stores
    them as text. Not for several threads at once.

    Parameters
    ----------
    generator : whose model, settings of sampling and limit of a reply are used; other calls of it may go on between.
    budget : keys of a head. system : what stands before everything; keep it shorter than the budget.
    retain, sinks, recent, decay : as of RetentiveStream. ``sinks``: by default the system part and at least 4.

    Raises
    ------
    InputError : an argument is of no use, or the model is not of the kind. ModelError : its chat template cannot be
        continued turn by turn.
    """

    def __init__(
        self,
        generator: TransformersGenerator,
        budget: int,
        *,
        system: str = "",
        retain: Literal["sirllm", "window", "random"] = "sirllm",
        sinks: int | None = None,
        recent: float = 0.25,
        decay: float = 1.0,
    ) -> None:
        from carrel.generation.kv.streaming import RetentiveStream

        self.generator, self.system = generator, system
        loaded = generator.loaded
        self._tokenizer: Any = loaded.tokenizer.inner
        if sinks is None:
            sinks = max(4, len(self._ids(self._before_first())))
            if sinks + 2 > budget:
                raise InputError(
                    f"The system part has {sinks} tokens, which stay: a budget of {budget} keys leaves no room."
                )
        self.keys: RetentiveStream = RetentiveStream(
            loaded.runner.model, budget, retain=retain, sinks=sinks, recent=recent, decay=decay,
            window=loaded.window,
        )  # fmt: skip
        self.turns = 0
        self._said: list[int] = []  # tokens of the last reply that were not read yet
        self._between("")  # a template that cannot be continued is an error now

    @property
    def kept(self) -> int:
        """Keys of a head now."""
        return self.keys.kept

    @property
    def tokens(self) -> int:
        """Tokens read so far."""
        return self.keys.tokens

    def forget(self) -> None:
        """Begin anew."""
        self.keys.clear()
        self.turns, self._said = 0, []

    def say(self, text: str, *, max_tokens: int | None = None, remember: bool = True) -> Completion:
        """The reply to what a user says. What is not to be remembered leaves the dialogue as it was.

        Raises
        ------
        InputError : there is no text. GenerationError : the model fails.
        """
        *_, completion = self._replied(text, max_tokens, remember)
        assert isinstance(completion, Completion)  # noqa: S101 - the last piece always is
        return completion

    def stream(self, text: str, *, max_tokens: int | None = None) -> Iterator[Event]:
        """The reply as it comes, then the (empty) citations, then usage; who stops reading ends the turn."""
        for piece in self._replied(text, max_tokens, remember=True):
            if isinstance(piece, Completion):
                yield from replies.ending(piece)
            else:
                yield TextEvent(piece)

    def _replied(self, text: str, max_tokens: int | None, remember: bool) -> Iterator[str | Completion]:
        try:
            yield from self._turn(text, max_tokens, remember)
        except CarrelError:
            raise
        except Exception as error:
            raise GenerationError(f"{self.generator.model} failed: {replies.reason_of(error, 400)}") from error

    def _turn(self, text: str, max_tokens: int | None, remember: bool) -> Iterator[str | Completion]:
        from carrel.generation.kv.decoding import Reply

        if not text.strip():
            raise InputError("Nothing was said.")
        room = self.generator.max_tokens if max_tokens is None else max_tokens
        if room < 1:
            raise InputError(f"max_tokens must be above 0, not {max_tokens}")
        stream = self.keys if remember else self.keys.fork()
        ids = [*self._said, *self._ids(self._between(text) if self.tokens else self._first(text))]
        before = stream.tokens
        reply, said = Reply(), list[int]()
        stream.end_turn()
        waiting = [*ids]

        def logits() -> Any:
            found = stream.read(waiting)
            waiting.clear()
            said.clear()
            if remember and self._said is not said:  # whoever stops reading has heard what was said until then
                self._said, self.turns = said, self.turns + 1
            return found

        def take(token: int) -> None:
            waiting.append(token)
            said.append(token)

        yield from self.generator.said(reply, room, logits, take)
        metrics = reply.metrics | {"kept_keys": stream.kept, "kept_bytes": stream.size_bytes}
        usage = Usage(before + len(ids), reply.tokens, before, self.generator.tokenizer.name)
        yield Completion(
            reply.text, usage, finish_reason(reply.text, reply.reason), Path(self.generator.model).name,
            logprobs=tuple(reply.logprobs), metrics=metrics,
        )  # fmt: skip

    # -- the template ---------------------------------------------------------------------------

    def _rendered(self, *said: tuple[str, str]) -> str:
        """A chat up to where the next reply begins; where a template knows no system part, the user says it first."""
        messages = [{"role": role, "content": content} for role, content in said]
        system = [{"role": "system", "content": self.system}] if self.system else []
        merged = [{"role": said[0][0], "content": f"{self.system}\n\n{said[0][1]}"}, *messages[1:]]
        for chat in ([*system, *messages], merged):
            try:
                return str(self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
            except Exception as error:  # a template raises what it likes
                failed = error
                if not self.system:
                    break
        name = self.generator.tokenizer.name
        raise ModelError(f"the chat template of {name} fails: {replies.reason_of(failed, 400)}") from failed

    def _before_first(self) -> str:
        """What stands before the first thing that a user says."""
        one, other = self._rendered(("user", "A")), self._rendered(("user", "7"))
        length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        return one[:length]

    def _first(self, text: str) -> str:
        return self._rendered(("user", text))

    def _between(self, text: str) -> str:
        """What a template writes from the end of a reply to the beginning of the next."""
        whole = self._rendered(("user", "A"), ("assistant", _REPLY), ("user", text or "A"))
        _, found, rest = whole.partition(_REPLY)
        if not found or not rest.strip():
            raise ModelError(
                f"the chat template of {self.generator.tokenizer.name} does not write earlier replies as they were: a"
                " dialogue cannot be continued turn by turn. Give the history with each prompt instead."
            )
        return rest

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
