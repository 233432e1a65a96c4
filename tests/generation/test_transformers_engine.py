"""A tiny model in this process: what it says is what transformers says; contexts are read once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import carrel  # noqa: E402
from carrel.errors import (  # noqa: E402
    ContextOverflowError,
    GenerationError,
    InputError,
    MalformedReplyError,
    ModelError,
    StoredContextError,
)
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.generation.replies import stream  # noqa: E402
from carrel.testing import GeneratorConformance  # noqa: E402
from carrel.types import Completion, Document, Prompt, TextEvent, Turn  # noqa: E402
from tests.slow.tiny_llama import make  # noqa: E402

pytestmark = pytest.mark.extras
torch.set_num_threads(1)
PIER = Document("The pier was built in 1894 by the harbour company. It is ninety metres long. " * 4, "pier.txt", "Pier")
FERRY = Document("The ferry leaves at nine and at noon, on Sundays at ten. " * 4, "ferry.txt", "Ferry")
ASKED = Prompt("When was the pier built?", standing=(PIER,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder))
    return model, transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture
def generator(loaded: tuple[Any, Any]) -> Iterator[TransformersGenerator]:
    with TransformersGenerator(loaded[0], tokenizer=loaded[1], max_tokens=24) as made:
        yield made


def made(loaded: tuple[Any, Any], **options: Any) -> TransformersGenerator:
    return TransformersGenerator(loaded[0], tokenizer=loaded[1], **{"max_tokens": 12, **options})


def by_transformers(loaded: tuple[Any, Any], generator: TransformersGenerator, prompt: Prompt, tokens: int) -> str:
    """What the library's own greedy decoding says to the same chat."""
    model, tokenizer = loaded
    chat = [message.as_dict() for message in generator.messages(prompt)]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


class TestConformance(GeneratorConformance):
    @pytest.fixture(autouse=True)
    def _model(self, loaded: tuple[Any, Any]) -> None:
        self.loaded = loaded

    def make(self) -> TransformersGenerator:
        return made(self.loaded)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("When was the pier built?"),
        ASKED,
        replace(ASKED, question="Who?", standing=(PIER, FERRY), notes=("Be brief.",)),
        replace(ASKED, history=(Turn("user", "Hello"), Turn("assistant", "Good day."))),
        Prompt("Wozu? 日本語 🚢", system="Answer."),
    ],
)
def test_it_says_what_the_library_itself_says(
    generator: TransformersGenerator, loaded: tuple[Any, Any], prompt: Prompt
) -> None:
    expected = by_transformers(loaded, generator, prompt, 24)
    assert generator.complete(prompt).text == expected
    assert generator.complete(prompt).text == expected  # from what is in memory now


def test_a_context_is_read_once_and_serves_every_question(generator: TransformersGenerator, loaded: Any) -> None:
    first = generator.complete(ASKED)
    assert first.usage.cached_tokens == 0 and first.metrics["context_prefill_s"] > 0
    for question in ("How long is it?", "Who built it?", "When was the pier built?"):
        asked = replace(ASKED, question=question)
        completion = generator.complete(asked)
        assert completion.usage.cached_tokens >= completion.metrics["context_tokens"] > 100
        assert "context_prefill_s" not in completion.metrics and completion.metrics["context_saved_s"] > 0
        assert completion.text == by_transformers(loaded, generator, asked, 24)
    assert len(generator.loaded.runner.store) == 1


def test_a_conversation_reads_only_what_is_new(loaded: tuple[Any, Any]) -> None:
    generator = made(loaded, placement="append")
    first = generator.complete(Prompt("When was the pier built?"))
    turns = (Turn("user", "When was the pier built?"), Turn("assistant", first.text))
    second = generator.complete(Prompt("And how long is it?", history=turns))
    assert second.usage.cached_tokens >= first.usage.prompt_tokens - 2
    assert second.text == by_transformers(loaded, generator, Prompt("And how long is it?", history=turns), 12)


def test_two_contexts_do_not_mix(generator: TransformersGenerator, loaded: tuple[Any, Any]) -> None:
    prompts = [replace(ASKED, question=q, standing=(d,)) for q in ("Who?", "When?") for d in (PIER, FERRY)]
    for prompt in prompts:
        assert generator.complete(prompt).text == by_transformers(loaded, generator, prompt, 24)
    assert len(generator.loaded.runner.store) == 2


def test_streams_may_take_turns(generator: TransformersGenerator, loaded: tuple[Any, Any]) -> None:
    prompts = [replace(ASKED, question=question) for question in ("Who?", "When?", "How long is it, in metres?")]
    streams = [stream(generator, prompt) for prompt in prompts]
    texts = [""] * 3
    open_ = set(range(3))
    while open_:
        for number in sorted(open_):
            event = next(streams[number], None)
            if isinstance(event, TextEvent):
                texts[number] += event.text
            elif event is None:
                open_.discard(number)
    assert texts == [by_transformers(loaded, generator, prompt, 24) for prompt in prompts]


def test_threads_share_a_model(generator: TransformersGenerator, loaded: tuple[Any, Any]) -> None:
    prompts = [replace(ASKED, question=f"Question {number}?") for number in range(4)]
    said: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: said.update({n: generator.complete(prompts[n]).text})) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: by_transformers(loaded, generator, prompt, 24) for n, prompt in enumerate(prompts)}


def test_a_restart_answers_from_the_file(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    with made(loaded, contexts=tmp_path / "contexts") as generator:
        before = generator.complete(ASKED)
    assert len(list((tmp_path / "contexts").iterdir())) == 1
    with made(loaded, contexts=tmp_path / "contexts") as generator:
        after = generator.complete(ASKED)
    assert after.text == before.text
    assert after.usage.cached_tokens == after.metrics["context_tokens"] == before.metrics["context_tokens"]
    assert after.metrics["context_load_s"] > 0 and "context_load_s" not in before.metrics


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_fewer_bits_take_fewer_bytes(loaded: tuple[Any, Any], tmp_path: Path, bits: int) -> None:
    with made(loaded, contexts=tmp_path, stored_bits=bits) as generator:
        dense = generator.complete(ASKED).metrics["context_dense_bytes"]
    (file,) = tmp_path.iterdir()
    assert bits / 32 * dense < file.stat().st_size < (bits + 2.5) / 32 * dense + 8192


def test_a_damaged_file_is_read_anew(loaded: tuple[Any, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with made(loaded, contexts=tmp_path) as generator:
        before = generator.complete(ASKED)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with made(loaded, contexts=tmp_path) as generator:
        assert generator.complete(ASKED).text == before.text
    assert "read again" in caplog.text
    assert file.read_bytes() != bytes(content)  # written anew


def test_another_model_or_policy_has_other_files(loaded: tuple[Any, Any], tmp_path: Path, folder: Path) -> None:
    other = transformers.AutoModelForCausalLM.from_pretrained(str(folder))
    with torch.no_grad():
        other.lm_head.weight *= 1.5
    for model, kv in ((loaded[0], None), (other, None), (loaded[0], "int8")):
        with made((model, loaded[1]), contexts=tmp_path, kv=kv) as generator:
            assert generator.complete(ASKED).usage.cached_tokens == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_quantised_contexts_take_less_memory(loaded: tuple[Any, Any]) -> None:
    sizes = {}
    for kv in ("dense", "int8", "int4"):
        with made(loaded, kv=kv) as generator:
            generator.complete(ASKED)
            sizes[kv] = generator.complete(replace(ASKED, question="Who?")).metrics["context_bytes"]
    assert sizes["int4"] < sizes["int8"] < 0.5 * sizes["dense"]  # the model is in float32


def test_eight_bits_say_nearly_the_same(loaded: tuple[Any, Any]) -> None:
    ids = torch.randint(6, 900, (1, 200), generator=torch.Generator().manual_seed(0))[0].tolist()
    logits = []
    for kv in ("dense", "int8"):
        with made(loaded, kv=kv) as generator:
            runner = generator.loaded.runner
            context, _ = runner.context(ids)
            logits.append(runner.logits(runner.begin(context, [7, 8, 9])))
    assert torch.nn.functional.cosine_similarity(logits[0], logits[1], dim=0) > 0.999


def test_random_eviction_frees_and_answers(loaded: tuple[Any, Any]) -> None:
    with made(loaded, kv="random:0.25+int8") as generator:
        metrics = generator.complete(ASKED).metrics
    assert metrics["context_keys"] == round(0.25 * metrics["context_tokens"])
    assert metrics["context_bytes"] < 0.3 * metrics["context_dense_bytes"]


def test_memory_for_contexts_is_limited(loaded: tuple[Any, Any]) -> None:
    with made(loaded, context_bytes=1_200_000) as generator:
        for number in range(6):
            document = Document(f"Report {number}. {PIER.text}", f"{number}.txt")
            generator.complete(replace(ASKED, standing=(document,)))
        store = generator.loaded.runner.store
        assert 1 < len(store) < 6 and store.size_bytes <= 1_200_000


@pytest.mark.parametrize("attention", ["paged:4096", "clustered:4096", "lambda:4096"])
def test_sparse_attention_with_everything_says_what_dense_says(loaded: tuple[Any, Any], attention: str) -> None:
    with made(loaded) as dense:
        expected = [dense.complete(replace(ASKED, question=question)).text for question in ("Who?", "When?")]
    with made(loaded, attention=attention) as sparse:
        assert [sparse.complete(replace(ASKED, question=question)).text for question in ("Who?", "When?")] == expected
        assert sparse.complete(replace(ASKED, question="Who?", standing=(FERRY,))).text
        assert sparse.complete(replace(ASKED, question="Who?")).text == expected[0]
    with made(loaded) as dense:  # the model has its own attention back
        assert dense.complete(replace(ASKED, question="When?")).text == expected[1]


def test_sparse_attention_after_a_restart(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        with made(loaded, attention="clustered:4096", contexts=tmp_path) as generator:
            said.append(generator.complete(ASKED).text)
            (context,) = generator.loaded.runner.store._contexts
            assert context.attention is not None and context.kept_bytes > context.cache.bytes_of(context.kept)
    assert said[0] == said[1]


def test_a_model_with_a_sliding_window_reads_every_prompt(loaded: tuple[Any, Any]) -> None:
    config = transformers.MistralConfig(
        vocab_size=loaded[0].config.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, sliding_window=32, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MistralForCausalLM(config).eval()
    generator = made((model, loaded[1]))
    for question in ("Who?", "When?", "Who?"):
        prompt = replace(ASKED, question=question)
        completion = generator.complete(prompt)
        assert completion.text == by_transformers((model, loaded[1]), generator, prompt, 12)
        assert completion.usage.cached_tokens == 0
    for options in ({"kv": "int8"}, {"attention": "paged:64"}, {"contexts": "x"}):
        with pytest.raises(InputError, match="sliding window"):
            made((model, loaded[1]), **options).complete(ASKED)


def test_sampling_follows_its_seed(loaded: tuple[Any, Any]) -> None:
    texts = [made(loaded, temperature=1.0, seed=seed).complete(ASKED).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_stop_texts_end_a_reply(loaded: tuple[Any, Any]) -> None:
    whole = made(loaded).complete(ASKED).text
    stop = whole[len(whole) // 2 :][:3]
    completion = made(loaded, stop=[stop]).complete(ASKED)
    assert completion.text == whole[: whole.index(stop)]
    assert completion.finish_reason == "stop"


def test_logprobs_are_those_of_the_model(loaded: tuple[Any, Any]) -> None:
    completion = made(loaded, logprobs=True, max_tokens=3).complete(ASKED)
    assert len(completion.logprobs) == completion.usage.completion_tokens == 3
    assert all(logprob <= 0 for _, logprob in completion.logprobs)
    assert completion.finish_reason == "length"


def test_a_prompt_may_ask_for_a_shorter_reply(loaded: tuple[Any, Any]) -> None:
    generator = made(loaded)
    whole = generator.complete(ASKED)
    for most in (3, 12, 50):
        completion = generator.complete(replace(ASKED, max_tokens=most))
        assert completion.usage.completion_tokens == min(most, whole.usage.completion_tokens)
        assert whole.text.startswith(completion.text.rstrip("\N{REPLACEMENT CHARACTER}"))
    said = list(stream(generator, replace(ASKED, max_tokens=3)))[-1]
    assert isinstance(said, Completion) and said.usage.completion_tokens == 3
    with pytest.raises(InputError, match="max_tokens of a prompt must be above 0, not 0"):
        generator.complete(replace(ASKED, max_tokens=0))


def test_a_prompt_beyond_the_window_is_an_error_before_anything_is_read(loaded: tuple[Any, Any]) -> None:
    generator = made(loaded, context_window=100)
    with pytest.raises(ContextOverflowError, match="100"):
        generator.complete(ASKED)
    assert len(generator.loaded.runner.store) == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("no \n kernel"), "^LlamaForCausalLM failed: RuntimeError: no kernel$"),
        (torch.OutOfMemoryError("tried to allocate"), "^LlamaForCausalLM ran out of memory. Use fewer tokens"),
    ],
)
def test_an_error_of_torch_is_a_generation_error(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(generator.loaded.runner, "logits", fail)
    for call in (generator.complete, lambda prompt: list(generator.stream(prompt))):
        with pytest.raises(GenerationError, match=message) as caught:
            call(ASKED)
        assert caught.value.__cause__ is error
    monkeypatch.undo()
    assert generator.complete(ASKED).text  # what failed holds nothing back


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_json_that_was_asked_for_is_checked(loaded: tuple[Any, Any]) -> None:
    text = made(loaded).complete(ASKED).text
    prompt = replace(ASKED, schema={"type": "object"})
    stops = (text[start : start + 3] for start in range(5, len(text) - 3))
    stop = next(stop for stop in stops if not is_json(text[: text.index(stop)]))  # the babble may begin with a number
    with pytest.raises(MalformedReplyError, match="not JSON"):
        made(loaded, stop=[stop]).complete(prompt)
    assert made(loaded).complete(prompt).finish_reason == "length"  # cut off: that is said, and not JSON for sure


def test_a_template_without_a_system_part(folder: Path, loaded: tuple[Any, Any]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}<|assistant|>"
    )
    with made((loaded[0], tokenizer)) as generator:
        generator.complete(ASKED)
        second = generator.complete(replace(ASKED, question="Who?"))
    assert second.usage.cached_tokens > 100


def test_what_cannot_be_loaded_is_an_error(tmp_path: Path, loaded: tuple[Any, Any], folder: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        TransformersGenerator(tmp_path / "nothing").complete(ASKED)
    with pytest.raises(ModelError, match=r"no config\.json"):
        TransformersGenerator(tmp_path).complete(ASKED)
    with pytest.raises(ModelError, match="cannot load"):
        TransformersGenerator("nobody/nothing").complete(ASKED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="chat template"):
        made((loaded[0], tokenizer)).complete(ASKED)


def test_contexts_of_another_reading_are_other_files(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    """Lambda attention reads a context through its window; no dense generator may take that for its own."""
    with made(loaded, contexts=tmp_path / "alone") as generator:
        expected = generator.complete(ASKED).text
    for attention in ("lambda:16", "lambda:32", None):
        with made(loaded, contexts=tmp_path, attention=attention) as generator:
            completion = generator.complete(ASKED)
        assert completion.usage.cached_tokens == 0
    assert completion.text == expected
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("attention", [None, "clustered:64", "paged:64", "lambda:64"])
def test_without_standing_documents(loaded: tuple[Any, Any], tmp_path: Path, attention: str | None) -> None:
    """Nothing is kept in files, and a restart is nothing special; attention that needs a context does without."""
    said = []
    for _ in range(2):
        with made(loaded, contexts=tmp_path, attention=attention) as generator:
            said.append(generator.complete(Prompt("When was the pier built?")).text)
    assert said[0] == said[1] and not list(tmp_path.iterdir())


def test_a_full_disk_is_a_warning(
    loaded: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any) -> None:
        raise StoredContextError("no space left on device")

    monkeypatch.setattr("carrel.generation.kv.contexts.save_context", full)
    with made(loaded, contexts=tmp_path) as generator:
        first, second = generator.complete(ASKED), generator.complete(ASKED)
    assert "no space left" in caplog.text
    assert first.text == second.text and second.usage.cached_tokens > 100


def test_the_first_answer_is_that_after_a_restart(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    logits = []
    for _ in range(2):
        with made(loaded, contexts=tmp_path, stored_bits=4) as generator:
            runner = generator.loaded.runner
            context, _ = runner.context(range(6, 206))
            logits.append(runner.logits(runner.begin(context, [7, 8, 9])))
    assert torch.equal(logits[0], logits[1])


def test_a_template_that_puts_the_system_part_last(folder: Path, loaded: tuple[Any, Any]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'user' %}<|user|>"
        "{% if loop.last %}{{ messages[0].content }} {% endif %}{{ message.content }}</s>"
        "{% elif message.role == 'assistant' %}<|assistant|>{{ message.content }}</s>{% endif %}{% endfor %}"
        "<|assistant|>"
    )
    history = (Turn("user", "Hello"), Turn("assistant", "Good day."))
    with made((loaded[0], tokenizer)) as generator:
        tokens = [
            generator.complete(prompt).metrics.get("context_tokens", 0)
            for prompt in (ASKED, replace(ASKED, history=history), ASKED)
        ]
    assert tokens[0] == tokens[2] > 100 and tokens[1] == 0


def test_contexts_are_forgotten(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not ours")
    other = replace(ASKED, standing=(FERRY,))
    with made(loaded, contexts=tmp_path) as generator:
        for prompt in (ASKED, other):
            generator.complete(prompt)
        assert generator.forget(ASKED) == 1
        assert generator.complete(other).usage.cached_tokens > 100
        assert generator.complete(ASKED).usage.cached_tokens == 0
        assert generator.forget() == 2
        assert len(generator.loaded.runner.store) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_that_is_closed_ends_its_streams(loaded: tuple[Any, Any]) -> None:
    generator = made(loaded, attention="paged:64", max_tokens=200)
    events = generator.stream(ASKED)
    next(events)
    generator.close()
    with pytest.raises(GenerationError, match="closed"):
        list(events)


def test_one_model_is_not_sparse_and_dense_at_once(loaded: tuple[Any, Any]) -> None:
    with made(loaded, attention="paged:64") as sparse:
        sparse.complete(ASKED)
        with pytest.raises(InputError, match="sparse now"):
            made(loaded).complete(ASKED)
    assert made(loaded).complete(ASKED).text


def test_models_with_a_state_of_their_own_are_refused(loaded: tuple[Any, Any]) -> None:
    config = transformers.MambaConfig(vocab_size=1024, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(InputError, match="MambaForCausalLM has layers with a state"):
        made((transformers.MambaForCausalLM(config), loaded[1]), context_window=500).complete(ASKED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stop": "abc"}, "list of texts"),
        ({"seed": 1.5}, "seed"),
        ({"temperature": "hot"}, "temperature"),
        ({"context_window": 0}, "context_window"),
        ({"context_bytes": "2GB"}, "context_bytes"),
        ({"contexts": ""}, "folder"),
        ({"kv": 8}, "kv is a text"),
        ({"attention": 1024}, "attention is a text"),
        ({"kv": "paged:1024"}, "attention='paged:1024'"),
        ({"device": "cpu"}, "device and dtype"),
        ({"kv": "snapkvv:0.5"}, "snapkvv"),
        ({"kv": "random:0"}, "above 0"),
        ({"kv": "random:x"}, "no share"),
        ({"kv": "int8+random:0.5"}, "last"),
        ({"attention": "page:3"}, "paged"),
        ({"attention": "paged"}, "paged:1024"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"placement": "middle"}, "placed"),
        ({"stored_bits": 3}, "16, 8 or 4"),
    ],
)
def test_what_is_of_no_use_is_an_error(loaded: tuple[Any, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(loaded, **options).complete(ASKED)
    with pytest.raises(InputError, match="tokenizer"):
        TransformersGenerator(loaded[0])


async def test_a_cancelled_call_stops_the_model(loaded: tuple[Any, Any]) -> None:
    generator = made(loaded, max_tokens=1500)
    runner = generator.loaded.runner
    task = asyncio.create_task(generator.acomplete(ASKED))
    while not len(runner.store):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    (context,) = runner.store._contexts
    read = len(context.tail)
    await asyncio.sleep(0.2)
    assert len(context.tail) == read < 1500


def test_a_library_asks_it(generator: TransformersGenerator, tmp_path: Path) -> None:
    with carrel.open(tmp_path) as library:
        library.add_text(PIER.text, id="pier")
        answer = library.ask("When was the pier built?", generator=generator)
    assert answer.text
    (step,) = [step for step in answer.ledger.entries if step.stage == "answer"]
    assert step.details["first_token_s"] > 0


def test_from_a_folder(folder: Path, loaded: tuple[Any, Any]) -> None:
    with TransformersGenerator(folder, max_tokens=12) as generator:
        completion = generator.complete(ASKED)
    assert isinstance(completion, Completion) and completion.model == "tiny"
    assert completion.text == made(loaded).complete(ASKED).text
