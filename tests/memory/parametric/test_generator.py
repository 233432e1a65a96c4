"""A library's documents answer from adapters: trained when needed, merged for a question, never a stale one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
import carrel  # noqa: E402
from carrel.errors import AdapterError, DocumentNotFoundError, InputError  # noqa: E402
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.memory.parametric.files import AdapterFiles, read_adapter  # noqa: E402
from carrel.memory.parametric.generator import ParametricGenerator  # noqa: E402
from carrel.memory.parametric.pairs import Pair  # noqa: E402
from carrel.memory.parametric.recipes import PARAMETRIC_RAG  # noqa: E402
from carrel.testing import GeneratorConformance, HashEncoder  # noqa: E402
from carrel.types import Document, Passage, Prompt, TextEvent, UsageEvent  # noqa: E402
from tests.memory.parametric.needles import MODEL, documents, pairs  # noqa: E402
from tests.slow.tiny_llama import make as make_tiny  # noqa: E402

pytestmark = pytest.mark.extras
FAST = replace(
    PARAMETRIC_RAG, rank=8, alpha=32.0, rate=5e-3, steps=40, batch=16, learns_text=False, open_book=0.0, reconciled=3
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersGenerator]:
    with TransformersGenerator(MODEL, dtype="float32", device="cpu", instructions="", max_tokens=4) as made:
        yield made


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says something to everything."""
    return make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def found() -> list[Document]:
    return documents(3, 8)


@pytest.fixture
def library(tmp_path: Path, found: list[Document]) -> Iterator[carrel.Library]:
    with carrel.open(tmp_path / "library", encoder=HashEncoder(), mode="fast") as made:
        for document in found:
            made.add(document)
        yield made


def made(library: carrel.Library, engine: TransformersGenerator, **keywords: Any) -> ParametricGenerator:
    return ParametricGenerator(library, engine, **{"recipe": FAST, "mode": "closed", "pairs": pairs, **keywords})


def passages(*found: Document) -> tuple[Passage, ...]:
    return tuple(Passage(each.id, 0, len(each.text), each.text) for each in found)


def share(generator: Any, asked: Document, *read: Document) -> float:
    said = [generator.complete(Prompt(pair.question, passages(*read))).text.strip() for pair in pairs(asked)]
    return sum(one == pair.answer for one, pair in zip(said, pairs(asked), strict=True)) / len(said)


def test_closed_book(library: carrel.Library, engine: TransformersGenerator, found: list[Document]) -> None:
    assert share(made(library, engine, missing="skip"), found[0], found[0]) <= 0.2
    generator = made(library, engine)
    assert share(generator, found[0], found[0]) >= 0.95
    assert share(engine, found[0]) <= 0.2  # the engine itself is as it was
    completion = generator.complete(Prompt(pairs(found[0])[0].question, passages(found[0])))
    assert completion.metrics["adapters"] == 1 and completion.metrics["adapters_cached"] == 1
    assert completion.metrics["adapters_trained"] == 0 and completion.metrics["adapters_bytes"] > 0
    assert completion.usage.prompt_tokens < 10  # no passage is in the prompt


def test_a_library_answers_with_it(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    generator = made(library, engine, mode="combine", most=1)
    pair = pairs(found[1])[0]
    answer = library.ask(pair.question, generator=generator, limit=1)
    assert answer.text.strip().startswith(pair.answer)
    line = next(entry for entry in answer.ledger.entries if entry.stage == "answer")
    assert line.details["adapters"] == 1 and line.details["adapters_trained"] == 1


def test_merged_sets(library: carrel.Library, engine: TransformersGenerator, found: list[Document]) -> None:
    generator = made(library, engine)
    assert min(share(generator, each, *found[:2]) for each in found[:2]) >= 0.9
    stored = [one for one in generator.files.all(merged=True) if len(one.documents) == 2]
    assert len(stored) == 1 and stored[0].rank == 16
    library.remove(found[1].id)
    assert [one.documents for one in AdapterFiles(library).all(merged=True)] == [(found[0].id,)]


def test_a_merged_set_is_trained_within_its_rank_until_it_knows(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    generator = made(library, engine)
    stored = [generator.train(each.id) for each in found]
    assert all(one.trained["known"] >= 0.95 for one in stored)
    merged = generator.merged(stored)
    assert merged.trained["known"] >= 0.95 and 1 <= merged.trained["rounds"] <= 8
    assert merged.rank == 32 and not read_adapter(merged, generator.base)[1].get("use_rslora")
    assert merged.trained["steps"] == merged.trained["rounds"] * 5  # 3 passes for each of three, of 24 in 48s


def test_it_streams(library: carrel.Library, babbler: Path, found: list[Document]) -> None:
    """Piece by piece, the same as at once; whoever asks meanwhile waits, and is answered without these adapters."""
    with TransformersGenerator(babbler, device="cpu", max_tokens=12) as talker:
        recipe = replace(FAST, steps=3)
        generator = made(library, talker, recipe=recipe, pairs=lambda document: [Pair("Who?", "Nobody", "")])
        prompt = Prompt("Who?", passages(found[0]))
        bare = talker.complete(Prompt("Who?")).text
        whole = generator.complete(prompt)
        assert whole.text != bare
        pieces = list(generator.stream(prompt))
        texts = [event.text for event in pieces if isinstance(event, TextEvent)]
        assert len(texts) > 2 and "".join(texts) == whole.text
        last = pieces[-1]
        assert isinstance(last, UsageEvent) and last.metrics["adapters"] == 1 and last.metrics["adapters_cached"] == 1
        reading = generator.stream(prompt)
        next(reading)  # and no further
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(talker.complete, Prompt("Who?")).result(30).text == bare
            assert pool.submit(generator.complete, prompt).result(30).text == whole.text
        reading.close()  # type: ignore[attr-defined]
        assert talker.complete(Prompt("Who?")).text == bare


def test_vllm_is_given_the_same_model_and_a_rank(library: carrel.Library, engine: TransformersGenerator) -> None:
    from carrel.generation import VLLMEngine

    with pytest.raises(InputError, match="adapter_rank"):
        made(library, engine, served=VLLMEngine(MODEL))
    with pytest.raises(InputError, match="the same model"):
        made(library, engine, served=VLLMEngine("models/other", adapter_rank=16))
    with pytest.raises(InputError, match="served"):
        made(library, engine, served=engine)
    generator = made(library, engine, served=VLLMEngine(MODEL, adapter_rank=16, instructions="Be brief."))
    assert generator.speaker is generator.served


def test_a_set_is_cut_to_the_rank_that_vllm_has_room_for(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    from carrel.generation import VLLMEngine

    recipe = replace(FAST, steps=3, reconciled=1)
    generator = made(library, engine, served=VLLMEngine(MODEL, adapter_rank=16), recipe=recipe)
    stored = [generator.train(each.id) for each in found]
    assert generator.merged(stored).rank == 16 and generator.merged(stored[:2]).rank == 16
    assert made(library, engine, recipe=recipe).merged(stored).rank == 32


def test_as_peft_has_it(library: carrel.Library, engine: TransformersGenerator, found: list[Document]) -> None:
    """Two adapters as one folder: peft reads it, and gives the same tokens and nearly the same numbers."""
    from transformers import AutoModelForCausalLM

    from carrel.memory.parametric.applying import Layers, applied

    generator = made(library, engine, reconciled=False)
    merged = generator.merged([generator.train(each.id) for each in found[:2]])
    assert merged.rank == 16 and merged.documents == (found[0].id, found[1].id)
    fresh = AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(fresh, str(merged.folder)).eval()
    ids = torch.tensor([engine.loaded.tokenizer.chat_ids(engine.messages(Prompt(pairs(found[0])[0].question)))])
    model = engine.loaded.runner.model
    layers = Layers.of(*read_adapter(merged, generator.base), torch.device("cpu"))
    with torch.inference_mode(), applied(model, layers):
        ours = model(input_ids=ids).logits
    with torch.inference_mode():
        expected = theirs(input_ids=ids).logits
    assert torch.allclose(ours, expected, atol=1e-4) and torch.equal(ours.argmax(-1), expected.argmax(-1))


def test_a_changed_document_is_trained_anew(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    generator = made(library, engine)
    assert share(generator, found[0], found[0]) >= 0.95
    changed = replace(documents(1, 8, seed=5)[0], id=found[0].id)
    library.add(changed)
    assert not generator.files.all()
    assert share(generator, changed, changed) >= 0.95 and share(generator, found[0], changed) <= 0.2
    library.remove(changed.id)
    with pytest.raises(DocumentNotFoundError):
        generator.complete(Prompt("? a b", passages(changed)))


def test_another_base_model_trains_its_own(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    generator = made(library, engine)
    stored = generator.train(found[0].id)
    with TransformersGenerator(MODEL, dtype="bfloat16", device="cpu", instructions="", max_tokens=4) as other:
        theirs = made(library, other, missing="skip")
        assert theirs.base != generator.base
        assert theirs.complete(Prompt("? a b", passages(found[0]))).metrics["adapters_missing"] == 1
        with pytest.raises(AdapterError, match="another"):
            theirs.merged([stored])


def test_ctrl_c_keeps_what_is_trained_and_answers_with_none_of_it(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    def press(progress: Any) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    generator = made(library, engine, progress=press)
    with pytest.raises(KeyboardInterrupt):
        generator.train(found[0].id)
    (kept,) = generator.files.all()
    assert kept.trained["steps"] == 3 and generator.stored(found[0].id) is None
    again = made(library, engine).complete(Prompt("? a b", passages(found[0])))
    assert again.metrics["adapters_trained"] == 1
    assert generator.files.all()[0].trained["stopped"] == 0


def test_only_so_much_is_kept_in_memory(
    library: carrel.Library, engine: TransformersGenerator, found: list[Document]
) -> None:
    generator = made(library, engine, cache_bytes=1, reconciled=False)
    for each in (found[0], found[1], found[0]):
        completion = generator.complete(Prompt("? a b", passages(each)))
        assert completion.metrics["adapters_cached"] == 0


def test_arguments(library: carrel.Library, engine: TransformersGenerator, tmp_path: Path) -> None:
    for wrong in ({"mode": "open"}, {"missing": "wait"}, {"most": 0}, {"cache_bytes": True}, {"recipe": "prag"},
                  {"reconciled": 3}):  # fmt: skip
        with pytest.raises(InputError):
            made(library, engine, **wrong)
    with pytest.raises(InputError, match="an engine"):
        made(library, "a model")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="contexts"):
        made(library, TransformersGenerator(MODEL, contexts=tmp_path / "contexts"))


class TestParametricGenerator(GeneratorConformance):
    @pytest.fixture(autouse=True)
    def _given(self, library: carrel.Library, babbler: Path) -> None:
        self.library, self.folder = library, babbler
        for passage in self.prompt().passages:
            library.add(Document(passage.text, id=passage.document_id))

    def make(self) -> ParametricGenerator:
        engine = TransformersGenerator(self.folder, device="cpu", max_tokens=12)
        return made(self.library, engine, mode="combine", missing="skip")
