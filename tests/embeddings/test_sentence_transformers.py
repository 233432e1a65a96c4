"""Models of sentence-transformers, tiny ones made here: against the library itself, and where it would cut."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("sentence_transformers", exc_type=ImportError)

import carrel  # noqa: E402
from carrel.embeddings import sentence_transformers as module  # noqa: E402
from carrel.embeddings.instructions import Example, Template, few_shot, instruct  # noqa: E402
from carrel.embeddings.late import LateChunking  # noqa: E402
from carrel.embeddings.sentence_transformers import SentenceTransformerEncoder, multiplies_bfloat16  # noqa: E402
from carrel.embeddings.token_states import TokenModel, pooled  # noqa: E402
from carrel.embeddings.windowed import Pass  # noqa: E402
from carrel.errors import EncoderMismatchError, InputError, MissingDependencyError, ModelError  # noqa: E402
from carrel.testing import ChunkEncoderConformance, TokenizerConformance  # noqa: E402
from carrel.tokens import FileTokenizer, model_folder  # noqa: E402
from carrel.types import Document  # noqa: E402
from tests.embeddings.model_folders import WIDTH, WINDOW, declare, make_bert, put  # noqa: E402
from tests.slow.tiny_llama import HIDDEN, make  # noqa: E402

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
TEXTS = ["The ferry leaves at nine.", "", "渡轮九点开。 🚢", "Lamps burn whale oil all night. " * 5, "x", "הרציף נבנה"]
LONG = "The harbour is quiet at dusk, and the keeper trims the lamps. " * 20
PROMPTS = {"query": "query: ", "passage": "passage: "}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights, without a word on how they are to be used."""
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Make:
    """A model's folder with declarations of the test's choice."""

    def made(*arguments: Any, **options: Any) -> Path:
        path = Path(shutil.copytree(bert, tmp_path / f"model{len(list(tmp_path.iterdir()))}"))
        return declare(path, *arguments, **options)

    return made


@pytest.fixture(scope="module")
def plain(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformerEncoder:
    path = Path(shutil.copytree(bert, tmp_path_factory.mktemp("plain") / "tiny"))
    return SentenceTransformerEncoder(declare(path), dtype="float32")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model whose vector is the state of the last token."""
    path = make(tmp_path_factory.mktemp("llama") / "tiny", window=128)
    config = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    put(path / "tokenizer_config.json", {**config, "pad_token": "</s>"})  # the library pads, even a single text
    put(path / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                                {"idx": 1, "name": "1", "path": "1_Pooling",
                                 "type": "sentence_transformers.models.Pooling"}])  # fmt: skip
    put(path / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_lasttoken": True,
                                             "pooling_mode_mean_tokens": False})  # fmt: skip
    return path


def reference(path: Path, texts: list[str], **options: Any) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(path), device="cpu").encode(texts, normalize_embeddings=True, **options)
    return np.asarray(found)


class TestSentenceTransformerEncoder(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _path(self, plain: SentenceTransformerEncoder) -> None:
        self.path = plain.folder

    def make(self) -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder(self.path, dtype="float32")


class TestInWindows(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _path(self, plain: SentenceTransformerEncoder) -> None:
        self.path = plain.folder

    def make(self) -> SentenceTransformerEncoder:
        options: dict[str, Any] = {"query_prompt": "query: ", "document_prompt": "passage: ", "batch_tokens": 64}
        return SentenceTransformerEncoder(self.path, window=12, dtype="float32", **options)


class TestInBfloat16(ChunkEncoderConformance):
    tolerance = 0.02  # numbers of eight bits, in batches of other shapes

    @pytest.fixture(autouse=True)
    def _path(self, plain: SentenceTransformerEncoder) -> None:
        self.path = plain.folder

    def make(self) -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder(self.path, dtype="bfloat16")


class TestOfACausalModel(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _path(self, llama: Path) -> None:
        self.path = llama

    def make(self) -> SentenceTransformerEncoder:
        prompt = few_shot("Find it", [Example("who?", "She.")])
        return SentenceTransformerEncoder(self.path, dtype="float32", query_prompt=prompt)


class TestLateChunking(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _model(self, plain: SentenceTransformerEncoder) -> None:
        self.model = plain

    def make(self) -> LateChunking:
        return LateChunking(self.model)


class TestItsTokenizer(TokenizerConformance):
    @pytest.fixture(autouse=True)
    def _tokenizer(self, plain: SentenceTransformerEncoder) -> None:
        self.found = plain.tokenizer

    def make(self) -> FileTokenizer:
        return self.found


# -- as the library itself has it -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"])
def test_vectors_are_those_of_the_library(folder: Make, mode: str) -> None:
    path = folder(mode)
    found = SentenceTransformerEncoder(path, dtype="float32", batch_tokens=100)
    assert found.encode_texts(TEXTS) == pytest.approx(reference(path, TEXTS), abs=1e-5)
    assert (found.dimension, found.window, found.special_tokens) == (WIDTH, WINDOW, 2)


@pytest.mark.parametrize("include", [True, False])
def test_declared_prompts_are_read(folder: Make, include: bool) -> None:
    path = folder("mean", prompts=PROMPTS, include_prompt=include)
    found = SentenceTransformerEncoder(path, dtype="float32")
    assert found.encode_queries(TEXTS[:3]) == pytest.approx(reference(path, TEXTS[:3], prompt_name="query"), abs=1e-5)
    assert found.encode_texts(TEXTS[:3]) == pytest.approx(reference(path, TEXTS[:3], prompt_name="passage"), abs=1e-5)
    assert found.special_tokens == 4


def test_prompts_may_be_replaced(folder: Make) -> None:
    path = folder("mean", prompts=PROMPTS)
    found = SentenceTransformerEncoder(path, query_prompt="", document_prompt="text: ", dtype="float32")
    assert found.encode_queries(["x y"]) == pytest.approx(reference(path, ["x y"], prompt=""), abs=1e-5)
    assert found.encode_texts(["x y"]) == pytest.approx(reference(path, ["x y"], prompt="text: "), abs=1e-5)
    both = SentenceTransformerEncoder(path, query_prompt=Template("a ", " b"), dtype="float32")
    assert both.encode_queries(["x"]) == pytest.approx(reference(path, ["a x b"], prompt=""), abs=1e-5)


@pytest.mark.parametrize("activation", ["Identity", "Tanh"])
def test_layers_after_pooling(folder: Make, activation: str) -> None:
    path = folder("mean", dense=activation)
    found = SentenceTransformerEncoder(path, dtype="float32")
    assert found.dimension == WIDTH // 2
    assert found.encode_texts(TEXTS) == pytest.approx(reference(path, TEXTS), abs=1e-5)
    tokens = found.tokenize(TEXTS[3])
    if activation == "Tanh":
        with pytest.raises(ModelError, match=r"a layer that is not linear \(Tanh\) after pooling"):
            found.states(tokens.ids)
    else:
        whole = np.concatenate([found._states(found._pass(tokens.ids.tolist(), Template()))])
        mean = whole.mean(axis=0)
        assert mean / np.linalg.norm(mean) == pytest.approx(found.encode_texts([TEXTS[3]])[0], abs=1e-5)


def test_another_pooling_may_be_chosen(folder: Make, bert: Path) -> None:
    chosen = SentenceTransformerEncoder(folder("mean"), pooling="cls", dtype="float32")
    assert chosen.encode_texts(TEXTS) == pytest.approx(reference(folder("cls"), TEXTS), abs=1e-5)


def test_a_folder_of_transformers_alone_needs_a_pooling(bert: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(bert, tmp_path / "bare"))
    declare(tmp_path / "declared")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "declared" / name, path)
    with pytest.raises(InputError, match="nothing in .* says how token states become a vector: give pooling='mean'"):
        SentenceTransformerEncoder(path)
    found = SentenceTransformerEncoder(path, pooling="mean", dtype="float32")
    assert found.encode_texts(TEXTS) == pytest.approx(reference(path, TEXTS), abs=1e-5) and found.window == 512


def test_an_instruction_before_the_question_of_a_causal_model(llama: Path) -> None:
    found = SentenceTransformerEncoder(llama, query_prompt=instruct("Find it"), dtype="float32", batch_tokens=64)
    texts = [text for text in TEXTS if text]
    expected = np.concatenate([reference(llama, [f"Instruct: Find it\nQuery: {text}".strip()]) for text in texts])
    assert found.encode_queries(texts) == pytest.approx(expected, abs=1e-4)
    assert found.special_tokens == 0 and found.encode_texts([""]).shape == (1, HIDDEN)


# -- texts of any length ----------------------------------------------------------------------------


def test_a_long_text_is_read_to_its_end(plain: SentenceTransformerEncoder) -> None:
    special = "Photosynthesis turns light into sugar. " * 8
    base, marked, own = plain.encode_texts([LONG, LONG + special, special])
    assert marked @ own > base @ own + 0.01
    assert reference(plain.folder, [LONG]) == pytest.approx(reference(plain.folder, [LONG + special]))  # cut there


@settings(max_examples=20)
@given(st.integers(0, 200), st.integers(5, 40))
def test_windows_are_averaged_by_their_length(plain: SentenceTransformerEncoder, words: int, window: int) -> None:
    made = SentenceTransformerEncoder(plain.folder, window=window, dtype="float32", document_prompt="to ")
    made.__dict__["model"] = plain.model
    text = " ".join("pier harbour lamp ferry".split()[number % 4] for number in range(words))
    ids, room = made.tokenizer.ids_many([text])[0], window - 3
    prompt = made.tokenizer.ids_many(["to "])[0]
    starts = range(0, len(ids) - room // 2, max(1, room // 2)) if len(ids) > room else [0]
    windows = [ids[start : start + room] for start in starts]
    vectors = [made._vectors([Pass([101, *prompt, *part, 102], 2)], "document")[0] for part in windows]
    total = sum(max(1, len(part)) * v / np.linalg.norm(v) for part, v in zip(windows, vectors, strict=True))
    assert made.encode_texts([text])[0] == pytest.approx(total / np.linalg.norm(total), abs=1e-4)


# -- token states -----------------------------------------------------------------------------------


def test_states_are_those_of_the_library(plain: SentenceTransformerEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(plain.folder), device="cpu")
    expected = model.encode(TEXTS[3], output_value="token_embeddings").numpy()[1:-1]
    tokens = plain.tokenize(TEXTS[3])
    assert plain.states(tokens.ids) == pytest.approx(expected, abs=1e-5)
    assert isinstance(plain, TokenModel) and plain.states(tokens.ids[:0]).shape == (0, WIDTH)
    with pytest.raises(InputError, match="63 tokens do not fit the window of sentence_transformers tiny"):
        plain.states(np.full(63, 2000))


def test_late_chunks_are_the_means_of_their_states(plain: SentenceTransformerEncoder) -> None:
    tokens = plain.tokenize(TEXTS[3])
    states = plain.states(tokens.ids)
    found = pooled(plain, tokens, [slice(0, 4), slice(4, 9)], overlap=10)
    assert found == pytest.approx(np.stack([states[:4].mean(axis=0), states[4:9].mean(axis=0)]), abs=1e-5)


@settings(max_examples=40)
@given(st.text(max_size=100))
def test_offsets_are_exact_whatever_the_text(plain: SentenceTransformerEncoder, text: str) -> None:
    tokens = plain.tokenize(text)
    assert all(0 <= start <= end <= len(text) for start, end in zip(tokens.starts, tokens.ends, strict=True))
    assert tokens.ids.tolist() == plain.model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_two_ways_of_pooling_at_once_have_no_states(folder: Make) -> None:
    path = folder("mean")
    put(path / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True,
                                             "pooling_mode_max_tokens": True})  # fmt: skip
    found = SentenceTransformerEncoder(path, dtype="float32")
    assert found.dimension == 2 * WIDTH
    with pytest.raises(ModelError, match="token states of .* have 32 dimensions and its vectors 64"):
        found.states(found.tokenize("pier").ids)


# -- tasks ------------------------------------------------------------------------------------------


class _Tasked(torch.nn.Module):
    """Adds a number to the first dimension, by the task."""

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        added = torch.zeros_like(features["sentence_embedding"])
        added[:, 0] = {None: 0.0, "find": 50.0, "query": 100.0, "document": -100.0}[task]
        return {**features, "sentence_embedding": features["sentence_embedding"] + added}


class Router(_Tasked):
    """One by its name, as sentence-transformers passes it every keyword."""

    forward_kwargs = frozenset({"task"})


def _with(path: Path, layer: torch.nn.Module, kwargs: list[str], **options: Any) -> SentenceTransformerEncoder:
    found = SentenceTransformerEncoder(path, dtype="float32", **options)
    found.model.insert(2, layer)
    found.model.module_kwargs = {"2": kwargs}
    return found


def test_a_task_goes_to_the_module_that_takes_it(folder: Make) -> None:
    path = folder("mean")
    found = _with(path, _Tasked(), ["task"], task="find")
    assert found.encode_texts(["x"])[0, 0] > 0.9 and found.encode_queries(["x"])[0, 0] > 0.9
    apart = _with(path, _Tasked(), ["task"], task={"query": "query", "document": "document"})
    assert apart.encode_texts(["x"])[0, 0] < -0.9 and apart.encode_queries(["x"])[0, 0] > 0.9
    assert abs(_with(path, _Tasked(), ["task"]).encode_texts(["x"])[0, 0]) < 0.9
    half = _with(path, _Tasked(), ["task"], task={"query": "query"})
    with pytest.raises(InputError, match="task names no adapter for a document"):
        half.encode_texts(["x"])


def test_a_router_is_told_the_kind_of_text(folder: Make) -> None:
    found = _with(folder("mean"), Router(), [])
    assert found.encode_queries(["x"])[0, 0] > 0.9 and found.encode_texts(["x"])[0, 0] < -0.9


def test_a_task_for_a_model_that_takes_none(folder: Make) -> None:
    with pytest.raises(InputError, match="takes no task; it takes nothing"):
        SentenceTransformerEncoder(folder("mean"), task="find", dtype="float32").encode_texts(["x"])


# -- number formats ---------------------------------------------------------------------------------


def test_bfloat16_is_close(plain: SentenceTransformerEncoder) -> None:
    half = SentenceTransformerEncoder(plain.folder, dtype="bfloat16")
    assert next(half.model.parameters()).dtype == torch.bfloat16
    cosines = np.einsum("td,td->t", half.encode_texts(TEXTS), plain.encode_texts(TEXTS))
    assert cosines.min() > 0.999 and half.encode_texts(TEXTS).dtype == np.float32
    assert half.states(half.tokenize("pier").ids).dtype == np.float32


@pytest.mark.parametrize(("bf16", "amx", "expected"), [(True, False, True), (False, True, True), (False, False, False)])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    plain: SentenceTransformerEncoder, monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert multiplies_bfloat16("cpu") is expected and not multiplies_bfloat16("mps")
    found = SentenceTransformerEncoder(plain.folder, device="cpu")
    wanted = torch.bfloat16 if expected else torch.float32
    assert next(found.model.parameters()).dtype == wanted
    assert found.fingerprint == SentenceTransformerEncoder(plain.folder).fingerprint != plain.fingerprint


# -- fingerprints and errors ------------------------------------------------------------------------


def test_fingerprints_are_of_files_and_choices(folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SentenceTransformerEncoder, "_load", lambda self: pytest.fail("loaded"))
    one, other = folder("mean"), folder("mean")
    first = SentenceTransformerEncoder(one).fingerprint
    assert first == SentenceTransformerEncoder(other).fingerprint
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(bytes(weights))
    choices: list[dict[str, Any]] = [
        {"query_prompt": "q"}, {"document_prompt": "q"}, {"pooling": "cls"}, {"window": 32}, {"task": "x"},
        {"dtype": "float32"},
    ]  # fmt: skip
    seen = {SentenceTransformerEncoder(one, **choice).fingerprint for choice in choices}
    seen |= {
        first,
        SentenceTransformerEncoder(other).fingerprint,
        SentenceTransformerEncoder(folder("cls")).fingerprint,
    }
    assert len(seen) == 9


def test_a_changed_encoder_is_refused_until_reindex(folder: Make, tmp_path: Path) -> None:
    path = folder("mean", prompts=PROMPTS)
    with carrel.open(tmp_path / "library", encoder=str(path)) as library:
        library.add([Document("The pier was built in 1894.", id="pier"), Document("Lamps burn.", id="lamps")])
        assert library.search("The pier was built in 1894.", retriever="dense", limit=1)[0].document_id == "pier"
        assert all(check.ok for check in library.doctor())
    put(path / "config_sentence_transformers.json", {"prompts": {"query": "other: "}})
    with carrel.open(tmp_path / "library", encoder=str(path)) as library:
        with pytest.raises(EncoderMismatchError, match="carrel reindex"):
            library.search("pier")
        assert library.reindex().embedded == 2
        assert library.search("pier", retriever="dense")


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder .*missing. Name the folder that holds"):
        SentenceTransformerEncoder(tmp_path / "missing")
    with pytest.raises(ModelError, match=r"no/such-model is no folder, and not in the hub's cache.*download=True"):
        SentenceTransformerEncoder("no/such-model")
    with pytest.raises(ModelError, match="is no folder, and not in the hub's cache"):
        SentenceTransformerEncoder("no such model at all")


@pytest.mark.parametrize("download", [False, True])
def test_a_name_of_the_hub(folder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: bool) -> None:
    """Its snapshot is looked for on this machine alone, unless a download is asked for."""
    import huggingface_hub

    path, asked = folder("mean"), []

    def snapshot(name: str, *, local_files_only: bool, ignore_patterns: list[str]) -> str:
        asked.append((name, local_files_only, "onnx/*" in ignore_patterns))
        return str(path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = SentenceTransformerEncoder("org/tiny", download=download, dtype="float32")
    assert asked == [("org/tiny", not download, True)] and found.name == "sentence_transformers org/tiny"
    assert found.fingerprint == SentenceTransformerEncoder(path, dtype="float32").fingerprint
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: 1 / 0)
    advice = "Check its name and the connection" if download else "pass download=True to fetch it"
    with pytest.raises(ModelError, match=f"org/tiny is no folder, and not in the hub's cache: .*{advice}"):
        SentenceTransformerEncoder("org/tiny", download=download)


def test_larger_batches_on_other_devices(plain: SentenceTransformerEncoder) -> None:
    found = SentenceTransformerEncoder(plain.folder, device="cpu", dtype="float32")
    assert found._usual_batch_tokens == 2048
    found.__dict__["model"] = SimpleNamespace(device=torch.device("cuda"))
    assert found._usual_batch_tokens == 16_384


def test_a_damaged_model(folder: Make) -> None:
    path = folder("mean")
    (path / "model.safetensors").write_bytes(b"noise")
    with pytest.raises(ModelError, match="cannot load the encoder in .*Check its files"):
        SentenceTransformerEncoder(path).encode_texts(["x"])


def test_code_of_a_model_is_not_run_unasked() -> None:
    said = module._explained(Path("model"), ValueError("Please pass trust_remote_code=True"), False)
    assert said.endswith("read it, and if you trust it, pass trust_remote_code=True.")


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is a table: a vector a token, and their mean."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer.from_file(str(model_folder("minilm") / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=24)], device="cpu").save(str(path))
    return path


def test_static_embeddings_have_no_window(static: Path) -> None:
    encoder = SentenceTransformerEncoder(static)
    texts = ["the ferry leaves at nine", "the lamps of the harbour " * 2000, "", "ein Licht 🔦"]
    found = encoder.encode_texts(texts)
    expected = reference(static, texts)
    assert np.allclose(found[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-5)  # of an empty text the library has zeros
    assert np.linalg.norm(found[2]) == pytest.approx(1)
    tokens = encoder.tokenize(texts[0])
    assert encoder.special_tokens == 0 and len(tokens) == 5
    mean = encoder.states(tokens.ids).mean(axis=0)
    assert np.allclose(mean / np.linalg.norm(mean), found[0], atol=1e-5)
    with pytest.raises(InputError, match="no pooling"):
        SentenceTransformerEncoder(static, pooling="cls").encode_texts(["a"])


class TestStaticEmbeddings(ChunkEncoderConformance):
    @pytest.fixture(autouse=True)
    def _path(self, static: Path) -> None:
        self.path = static

    def make(self) -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder(self.path)


@pytest.mark.parametrize("extension", ["ntk", "self_extend"])
def test_a_longer_window_for_rotary_positions(llama: Path, extension: Any) -> None:
    plain = SentenceTransformerEncoder(llama, dtype="float32")
    longer = SentenceTransformerEncoder(llama, dtype="float32", window=400, extension=extension)
    assert (plain.window, longer.window, longer.trained) == (128, 400, 128)
    assert longer.fingerprint != SentenceTransformerEncoder(llama, dtype="float32", window=400).fingerprint
    short, long = "the ferry leaves at nine", "the lamps of the harbour burn until morning " * 25
    assert 128 < longer.tokenizer.count(long) < 390
    together = longer.encode_texts([long, short, long + short])
    assert np.allclose(together[1], plain.encode_texts([short])[0], atol=1e-5)
    assert np.allclose(together[0], longer.encode_texts([long])[0], atol=1e-5)  # whatever it is read with
    assert not np.allclose(together[0], plain.encode_texts([long])[0], atol=1e-2)
    tokens = longer.tokenize(long)
    assert longer.states(tokens.ids).shape == (len(tokens), HIDDEN)


def test_an_extension_that_cannot_be(llama: Path, plain: SentenceTransformerEncoder) -> None:
    with pytest.raises(InputError, match="a window longer than the 128 tokens that are declared.*give window="):
        SentenceTransformerEncoder(llama, extension="ntk")
    with pytest.raises(InputError, match="extension is one of ntk, self_extend, not 'yarn'"):
        SentenceTransformerEncoder(llama, window=400, extension="yarn")  # type: ignore[arg-type]
    other = SentenceTransformerEncoder(plain.folder, window=2 * plain.window, extension="ntk")
    with pytest.raises(InputError, match="0 modules that make rotary positions"):
        other.encode_texts(["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "int8"}, "dtype is one of auto"), ({"batch_tokens": 0}, "batch_tokens is a number of tokens"),
     ({"pooling": "average"}, "pooling is one of"), ({"window": 0}, "window is a number of tokens"),
     ({"query_prompt": 3}, "query_prompt is a text")],
)  # fmt: skip
def test_arguments_of_no_use(plain: SentenceTransformerEncoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SentenceTransformerEncoder(plain.folder, **options)


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.mark.usefixtures("_not_installed")
def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'carrel\[sentence-transformers\]'"):
        SentenceTransformerEncoder(tmp_path)


def test_importing_it_imports_no_torch() -> None:
    import subprocess

    code = "import sys; import carrel.embeddings.sentence_transformers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
