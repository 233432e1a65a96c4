"""Languages that the embedder does not know are noticed; English, code and tables are not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.language import NOT_ENGLISH, mismatch, plain_language

_SAMPLES = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))
LANGUAGES: dict[str, list[str]] = _SAMPLES["languages"]  # two short texts and two paragraphs each
NOT_JUDGED: dict[str, str] = _SAMPLES["not judged"]  # English of many kinds, and what is no running text

TEXTS = {
    "English": (
        "The ferry leaves the north pier at nine in the morning, and it comes back at six in the evening. "
        "There are lamps on the tower that burn all night, as they have for a hundred years, but nobody knows "
        "by whom they were lit."
    ),
    "German": (
        "Die Fähre verlässt den Nordkai um neun Uhr morgens und kommt am Abend um sechs zurück. Auf dem Turm "
        "sind Lampen, die die ganze Nacht brennen, und es ist nicht bekannt, von wem sie angezündet werden."
    ),
    "French": (
        "Le bac quitte le quai du nord à neuf heures du matin et il revient à six heures du soir. Sur la tour "
        "il y a des lampes qui brûlent toute la nuit, et on ne sait pas par qui elles sont allumées dans le "
        "port."
    ),
    "Spanish": (
        "El barco sale del muelle norte a las nueve de la mañana y vuelve a las seis de la tarde. En la torre "
        "hay lámparas que arden toda la noche, y no se sabe por quién son encendidas en el puerto."
    ),
    "Italian": (
        "Il traghetto lascia il molo nord alle nove del mattino e torna alle sei di sera. Sulla torre ci sono "
        "delle lampade che bruciano tutta la notte, e non si sa da chi sono accese nel porto della città."
    ),
    "Portuguese": (
        "O barco sai do cais norte às nove da manhã e volta às seis da tarde. Na torre há lâmpadas que ardem "
        "toda a noite, e não se sabe por quem são acesas no porto da cidade, mas não é novo."
    ),
    "Dutch": (
        "De veerboot verlaat de noordpier om negen uur in de ochtend en komt in de avond om zes uur terug. Op "
        "de toren zijn er lampen die de hele nacht branden, en het is niet bekend door wie ze worden "
        "aangestoken."
    ),
    "Polish": (
        "Prom odpływa z północnego nabrzeża o dziewiątej rano i wraca o szóstej po południu. Na wieży są "
        "lampy, które palą się przez całą noc, ale nie wiadomo, przez kogo są zapalane, i to jest tak od lat, "
        "jak się mówi w porcie."
    ),
    "Swedish": (
        "Färjan lämnar den norra piren klockan nio på morgonen och kommer tillbaka klockan sex. I tornet är "
        "det lampor som brinner hela natten, och det är inte känt av vem de har blivit tända i hamnen."
    ),
    "Turkish": (
        "Vapur sabah dokuzda kuzey iskelesinden ayrılır ve akşam altıda geri gelir. Kulede bütün gece yanan "
        "lambalar var, ama bunların kim için ve ne kadar zaman yandığı bir sır olarak kalır, çok eski bir iş "
        "gibi, daha sonra da."
    ),
    "Indonesian": (
        "Kapal itu berangkat dari dermaga utara pada pukul sembilan dan kembali pada pukul enam. Di menara "
        "ada lampu yang menyala dalam malam, dan tidak ada orang yang tahu oleh siapa lampu itu telah "
        "dinyalakan untuk kota."
    ),
    "Vietnamese": (
        "Phà rời bến bắc lúc chín giờ sáng và trở về lúc sáu giờ tối. Trên tháp có những ngọn đèn cháy trong "
        "đêm, và không ai biết chúng được thắp từ khi nào, các người già của cảng đã nói với một nhà báo là "
        "như vậy."
    ),
    "a Cyrillic-script language": "Паром отходит от северного причала в девять утра и возвращается в шесть вечера.",
    "Greek": "Το πλοίο φεύγει από τη βόρεια αποβάθρα στις εννέα το πρωί.",
    "Japanese": "フェリーは朝九時に北の桟橋を出て、夕方六時に戻ります。",
    "Chinese or Japanese": "渡轮早上九点离开北码头，晚上六点回来。塔上的灯整夜亮着。",
    "Korean": "배는 아침 아홉 시에 북쪽 부두를 떠나 저녁 여섯 시에 돌아온다.",
    "Hebrew": "המעבורת יוצאת מהרציף הצפוני בתשע בבוקר וחוזרת בשש.",
    "an Arabic-script language": "تغادر العبارة الرصيف الشمالي في التاسعة صباحا وتعود في السادسة.",
    "a Devanagari-script language": "नाव सुबह नौ बजे उत्तरी घाट से चलती है और छह बजे लौटती है।",
    "Thai": "เรือออกจากท่าเรือเหนือเวลาเก้าโมงเช้าและกลับมาตอนหกโมงเย็น",
}
NONE = {
    "code": "import os\n\ndef walk(path):\n    for name in os.listdir(path):\n        if name.endswith('.py'):\n"
    "            yield os.path.join(path, name)\n\nclass Store:\n    def __init__(self, path): self.path = path\n" * 2,
    "table": "Name | Size | Colour\n" + "\n".join(f"boat{n} | {n}.5 m | red" for n in range(40)),
    "numbers": " ".join(str(number * 37) for number in range(300)),
    "short": "Guten Morgen!",
    "empty": "",
    "names": "Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Koch Bauer Richter Klein Wolf "
    "Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann Lange",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_plain_text_is_known(language: str) -> None:
    assert plain_language(TEXTS[language]) == language
    assert plain_language(TEXTS[language].upper()) in (language, None)
    assert plain_language(TEXTS[language] * 300) == language


@pytest.mark.parametrize("name", NONE)
def test_what_is_not_plain_is_none(name: str) -> None:
    assert plain_language(NONE[name]) is None


@pytest.mark.parametrize("language", TEXTS)
def test_a_mismatch_is_any_other_language(language: str) -> None:
    english = frozenset({"English"})
    assert mismatch(TEXTS[language], english) == (None if language == "English" else language)
    assert mismatch(TEXTS[language], frozenset()) is None
    assert mismatch(TEXTS[language], frozenset({language})) is None


@pytest.mark.parametrize("name", NONE)
def test_none_is_no_mismatch(name: str) -> None:
    assert mismatch(NONE[name], frozenset({"English"})) is None


def test_english_with_foreign_words_is_english() -> None:
    text = TEXTS["English"] * 3 + " The captain said «паром ушёл», and 渡轮 is the word for it in China."
    assert plain_language(text) == "English"


def test_foreign_text_after_an_english_beginning_is_seen() -> None:
    assert plain_language("The end. " + TEXTS["German"] * 200) == "German"


@given(st.text(max_size=300))
def test_any_text_has_an_answer(text: str) -> None:
    assert plain_language(text) is None or isinstance(plain_language(text), str)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_is_taken_for_another(language: str) -> None:
    found = [plain_language(text) for text in LANGUAGES[language]]
    assert set(found) <= {language, NOT_ENGLISH, None}
    assert set(found[2:]) <= {language, NOT_ENGLISH}, "a paragraph shows that it is not English"


def test_most_short_texts_are_noticed_and_most_paragraphs_named() -> None:
    short = [plain_language(text) for texts in LANGUAGES.values() for text in texts[:2]]
    assert short.count(None) <= 0.1 * len(short)
    others = ("Latvian", "Icelandic")  # have no profile
    named = [plain_language(text) for key, texts in LANGUAGES.items() if key not in others for text in texts[2:]]
    assert named.count(NOT_ENGLISH) <= 0.1 * len(named)


@pytest.mark.parametrize("kind", NOT_JUDGED)
def test_english_and_what_is_no_running_text_raise_no_alarm(kind: str) -> None:
    assert mismatch(NOT_JUDGED[kind], frozenset({"English"})) is None
    assert mismatch(NOT_JUDGED[kind] * 30, frozenset({"English"})) is None


def test_what_is_only_known_to_be_not_english_fits_an_encoder_of_more_languages() -> None:
    text = LANGUAGES["Latvian"][3]
    assert mismatch(text, frozenset({"English"})) == NOT_ENGLISH
    assert mismatch(text, frozenset({"English", "Latvian"})) is None


def test_it_is_fast() -> None:
    """Every document is looked at: a tenth of a millisecond, and some slack for a busy machine."""
    texts = [TEXTS["English"] * 50, TEXTS["German"] * 50, NOT_JUDGED["minified"] * 50, NOT_JUDGED["short"]]
    best = min(_seconds(texts) for _ in range(5))
    assert best / len(texts) < 0.0005


def _seconds(texts: list[str]) -> float:
    started = time.perf_counter()
    for text in texts:
        plain_language(text)
    return time.perf_counter() - started


def test_a_long_text_takes_no_longer() -> None:
    text = TEXTS["English"] * 20_000
    started = time.perf_counter()
    plain_language(text)
    assert time.perf_counter() - started < 0.5
