"""Noticing text in a language that the embedder does not know, from its script and commonest words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_SAMPLE_CHARACTERS = 4000
_SCRIPTS = {
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": "a Cyrillic-script language",
    "ARABIC": "an Arabic-script language",
    "HEBREW": "Hebrew",
    "GREEK": "Greek",
    "DEVANAGARI": "a Devanagari-script language",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "THAI": "Thai",
    "GEORGIAN": "Georgian",
    "ARMENIAN": "Armenian",
}
_COMMON_WORDS = {
    "English": "the of and to in is that it was for on are as with they be at this have from or had by not but were",
    "German": "der die und das ist nicht ein eine mit von den zu auf für im dem sich des auch wird werden sind einer",
    "French": "le la les des et est une dans que qui pour sur avec pas au du par sont plus ce cette ou aux été",
    "Spanish": "el la los las de que y en un una por con para es del se no como más su al fue este está pero",
    "Italian": "il la di che e un una per con non del della sono i gli le da al nel è anche più alla dei si",
    "Portuguese": "o a os as de que e em um uma para com não por do da no na se mais dos das ao foi como é",
    "Dutch": "de het een en van in is dat op te zijn met voor niet aan er om ook als bij door naar wordt worden",
    "Polish": "i w na z nie się do jest to że o jak po co od za przez ale tak był są dla oraz jego",
    "Swedish": "och i att det som en på är av för med den till inte om ett har de var från vid eller också",
    "Turkish": "ve bir bu da de için ile olarak olan daha çok en gibi kadar sonra ama değil olduğu var her",
    "Vietnamese": "và của là có trong được cho các một những không người với để này từ đã khi đến",
    "Indonesian": "yang dan di dengan untuk ini itu dari dalam adalah pada tidak ke oleh akan juga atau sebagai telah",
}
_WORD_SETS = {language: frozenset(words.split()) for language, words in _COMMON_WORDS.items()}
_WORDS = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 20


def plain_language(text: str) -> str | None:
    """The language of a text where it is plain to see, else None.

    Looks at three samples (start, middle, end). A script other than Latin decides by itself; within
    Latin script a language must have clearly more of its commonest words than any other. Short or mixed
    texts, code and tables give None.
    """
    third = max(0, len(text) // 2 - _SAMPLE_CHARACTERS // 2)
    sample = text[:_SAMPLE_CHARACTERS]
    if len(text) > 3 * _SAMPLE_CHARACTERS:
        sample += text[third : third + _SAMPLE_CHARACTERS] + text[-_SAMPLE_CHARACTERS:]
    script = _script(sample)
    if script is not None:
        return script
    words = [word.lower() for word in _WORDS.findall(sample)]
    if len(words) < _LEAST_WORDS:
        return None
    shares = {language: sum(word in known for word in words) / len(words) for language, known in _WORD_SETS.items()}
    (best, share), (_, second) = sorted(shares.items(), key=lambda item: -item[1])[:2]
    return best if share >= 0.12 and share >= 1.3 * second else None


def _script(sample: str) -> str | None:
    letters = [character for character in sample[::7] if character.isalpha()]
    if len(letters) < 5:
        letters = [character for character in sample if character.isalpha()]
    foreign = [character for character in letters if ord(character) > 0x2E7F or 0x370 <= ord(character) < 0x1E00]
    if len(foreign) < 5 or len(foreign) < 0.5 * len(letters):
        return None
    names = Counter(unicodedata.name(character, "?").split()[0] for character in foreign)
    if names["HIRAGANA"] + names["KATAKANA"] > 0.1 * len(foreign):
        return "Japanese"
    return _SCRIPTS.get(names.most_common(1)[0][0], "a language in another script")


def mismatch(text: str, languages: frozenset[str]) -> str | None:
    """The text's language when it is plainly none of ``languages`` (empty: any will do), else None."""
    if not languages:
        return None
    found = plain_language(text)
    return None if found is None or found in languages else found
