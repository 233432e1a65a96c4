"""A conversation that never outgrows its cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from carrel.errors import GenerationError, InputError, ModelError  # noqa: E402
from carrel.generation import TransformersGenerator  # noqa: E402
from carrel.generation.dialogue import Dialogue  # noqa: E402
from carrel.types import Prompt, TextEvent, UsageEvent  # noqa: E402
from tests.generation.kv.needle_cases import CHAT, letter_tokenizer, save  # noqa: E402

pytestmark = pytest.mark.extras
NEEDLE = Path(__file__).resolve().parents[1] / "models" / "needle_lm"
TALK = "so then what of it and how has it been with all of that over there . "


@pytest.fixture
def needle() -> Iterator[TransformersGenerator]:
    with TransformersGenerator(NEEDLE, instructions="", max_tokens=3) as made:
        yield made


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "letters", letter_tokenizer(), words=False)


def generator(folder: Path, template: str = CHAT, **options: Any) -> TransformersGenerator:
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder))
    return TransformersGenerator(model, tokenizer=letter_tokenizer(template), **{"max_tokens": 12, **options})


def test_it_remembers_what_a_window_of_the_same_size_has_lost(needle: TransformersGenerator) -> None:
    known: dict[Any, int] = {}
    for retain in ("sirllm", "window"):
        dialogue = Dialogue(needle, 160, retain=retain)
        for fact in ("bado age 41", "fiju city 07", "guka river 19", "leba year 88"):
            dialogue.say(f"{TALK * 3}{fact} . ? {fact.rsplit(' ', 1)[0]}")
        for _ in range(20):
            dialogue.say(TALK * 3)
            assert dialogue.kept <= 160
        asked = {"? bado age": "41", "? fiju city": "07", "? guka river": "19", "? leba year": "88"}
        said = {question: dialogue.say(question, remember=False).text.strip() for question in asked}
        known[retain] = sum(said[question] == value for question, value in asked.items())
        assert dialogue.turns == 24 and dialogue.tokens > 1100
    assert known["sirllm"] == 4 > known["window"]


def test_as_long_as_all_fits_it_says_what_the_whole_history_makes_the_model_say(letters: Path) -> None:
    made = generator(letters)
    dialogue = Dialogue(made, 600, system="be brief")
    tokenizer, ids = made.loaded.tokenizer.inner, []
    for number, text in enumerate(("what is it?", "and then?", "why")):
        before = " " if number else "<s><system> be brief "  # as the template writes it, whatever was replied
        ids += tokenizer(f"{before}<user> {text} <assistant> ", add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([ids])
        output = made.loaded.runner.model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
        reply = output[0, len(ids) :].tolist()
        completion = dialogue.say(text)
        assert completion.text == tokenizer.decode(reply, skip_special_tokens=True)
        assert completion.usage.prompt_tokens == len(ids)
        ids += reply


def test_a_turn_reads_only_itself(letters: Path) -> None:
    dialogue = Dialogue(generator(letters), 600)
    first, second = dialogue.say("what is it?").usage, dialogue.say("and then?").usage
    assert first.cached_tokens == 0
    assert second.cached_tokens >= first.prompt_tokens + first.completion_tokens - 1
    assert second.prompt_tokens - second.cached_tokens < 40


def test_the_system_part_stays(letters: Path) -> None:
    dialogue = Dialogue(generator(letters), 120, system="you are a pirate")
    for _ in range(8):
        completion = dialogue.say("tell me more about it")
    kept = dialogue.keys.kept_tokens[0].tolist()
    assert kept[:27] == list(range(27)) and len(kept) <= 120 < dialogue.tokens  # "<s>", "<system> ... " and "<user> "
    assert completion.metrics["kept_keys"] <= 120 and completion.metrics["first_token_s"] > 0


def test_what_is_not_remembered_leaves_no_trace(letters: Path) -> None:
    one, other = Dialogue(generator(letters), 100), Dialogue(generator(letters), 100)
    for dialogue in (one, other):
        dialogue.say("tell me more about it")
    one.say("and what of that?", remember=False)
    assert (one.turns, one.tokens) == (other.turns, other.tokens)
    assert one.say("go on").text == other.say("go on").text


def test_a_stream_says_what_the_completion_says(letters: Path) -> None:
    one, other = Dialogue(generator(letters), 100), Dialogue(generator(letters), 100)
    completion, events = one.say("tell me"), list(other.stream("tell me"))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == completion.text
    assert isinstance(events[-1], UsageEvent) and events[-1].usage == completion.usage


def test_who_stops_listening_goes_on_from_there(letters: Path) -> None:
    dialogue = Dialogue(generator(letters), 200)
    events = dialogue.stream("tell me")
    said = [next(events), next(events)]
    events.close()  # type: ignore[attr-defined]
    completion = dialogue.say("and now?")
    assert dialogue.turns == 2
    heard = "".join(event.text for event in said if isinstance(event, TextEvent))
    prompt = f"<s><user> tell me <assistant> {heard} <user> and now? <assistant> "
    assert abs(completion.usage.prompt_tokens - len(prompt) + 2) <= 1  # "<s>" is one token


def test_other_questions_may_be_asked_of_the_generator_meanwhile(letters: Path) -> None:
    made = generator(letters)
    one, other = Dialogue(made, 100), Dialogue(generator(letters), 100)
    one.say("tell me")
    other.say("tell me")
    made.complete(Prompt("something else"))
    assert one.say("and now?").text == other.say("and now?").text


def test_it_begins_anew(letters: Path) -> None:
    dialogue = Dialogue(generator(letters), 100)
    first = dialogue.say("tell me")
    dialogue.say("go on")
    dialogue.forget()
    assert (dialogue.kept, dialogue.tokens, dialogue.turns) == (0, 0, 0)
    assert dialogue.say("tell me").text == first.text


def test_what_is_of_no_use(letters: Path) -> None:
    made = generator(letters)
    with pytest.raises(InputError, match=r"The system part has \d+ tokens, which stay: a budget of 40"):
        Dialogue(made, 40, system="x" * 60)
    dialogue = Dialogue(made, 100)
    for text, tokens, message in (("  ", None, "Nothing was said"), ("go", 0, "max_tokens must be above 0")):
        with pytest.raises(InputError, match=message):
            dialogue.say(text, max_tokens=tokens)
    assert dialogue.turns == 0


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1]['content'] }} =", "does not write earlier replies as they were"),
        ("{{ raise_exception('no') }}", "chat template of .* fails"),
    ],
)
def test_templates_that_cannot_be_continued(letters: Path, template: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Dialogue(generator(letters, template), 100)


def test_a_template_without_a_system_part(letters: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system part') }}{% endif %}" + CHAT
    dialogue = Dialogue(generator(letters, refusing), 200, system="be brief")
    assert dialogue.say("what is it?").usage.prompt_tokens == len("<s><user> be brief\n\nwhat is it? <assistant> ") - 2
    assert dialogue.say("and then?").usage.prompt_tokens > 0
    assert dialogue.turns == 2


def test_an_error_of_torch_is_a_generation_error(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dialogue = Dialogue(generator(letters), 100)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(dialogue.keys, "_read", fail)
    with pytest.raises(GenerationError, match="failed: RuntimeError: no kernel"):
        dialogue.say("tell me")
    monkeypatch.undo()
    assert dialogue.turns == 0
    assert dialogue.say("tell me").text == Dialogue(generator(letters), 100).say("tell me").text
