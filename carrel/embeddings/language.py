"""Noticing text in a language that the embedder does not know, from its script and commonest words.

A text is judged only where it runs: words in small letters, few other signs. English shows in words that only it
has (the, and, that, with, ...: a fifth of any prose); another language in its own commonest words and in letters
that English does not use. That it is not English takes less to see than which language it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

NOT_ENGLISH = "a language other than English"
_PIECE_CHARACTERS = 450
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
# The commonest words of each language, best known first.
_COMMON_WORDS = {
    "English": "the of and to in is that it was for on are as with they be at this have from or had by not but were he "
    "his she her you we their which will would there been has if all can when who what so no out up into them then "
    "than its our my me him some could these more any other only may should must do does did how where why about after "
    "before between each such your us over under an i a also just very because while those through most use used",
    "German": "der die und das ist nicht ein eine mit von den zu auf für im dem sich des auch wird werden sind einer "
    "bei wie aus nach am einen ich sie er wir oder aber noch nur zum zur hat haben wurde durch über um bis kann "
    "wenn dass ihr vor alle keine dieser diese dieses bitte wir uns einem eines schon immer sehr",
    "French": "le la les des et est une dans que qui pour sur avec pas au du par sont plus ce cette ou aux été de un "
    "il elle nous vous ne se son sa ses leur mais comme tout être avoir fait même sans il était ces cet dont où on je "
    "très bien deux entre après chaque ils elles à y",
    "Spanish": "el la los las de que y en un una por con para es del se no como más su al fue este está pero sus le lo "
    "ha me si sin sobre esta son entre cuando muy hay desde todo también nos durante donde ser tiene ya o todos uno",
    "Italian": "il la di che e un una per con non del della sono i gli le da al nel è anche più alla dei si lo come ma "
    "nella delle questo questa ha dal dalla sul sulla ci ogni dopo essere tutti tutto degli alle ai nei su a fu era",
    "Portuguese": "o a os as de que e em um uma para com não por do da no na se mais dos das ao foi como é são está "
    "à pelo pela mas ou seu sua também nos nas muito já até quando ser há entre depois isso este esta todos aos",
    "Catalan": "el la els les de que i en un una per amb és del dels no es al més com va ser aquest aquesta són a ha "
    "però també o d l s molt cada hi fins quan tots seva seu on entre",
    "Dutch": "de het een en van in is dat op te zijn met voor niet aan er om ook als bij door naar wordt worden die "
    "heeft maar dan nog uit over deze dit wij we ze hij werd kan kunnen hebben tot meer geen alle elke alleen "
    "onze wel na moet daar",
    "Swedish": "och i att det som en är på av för den med till inte om ett har de var från vid eller också men kan ska "
    "vi så under efter alla när han hon sig mycket bara över där skall blev varje mot hela nu någon",
    "Danish": "og i at det som en er på af for den med til ikke om et har de var fra ved eller også men kan skal vi så "
    "efter alle når han hun sig meget kun over der blev hver mod hele nu nogen hvor bliver være mig dem sin ud",
    "Norwegian": "og i at det som en er på av for den med til ikke om et har de var fra ved eller også men kan skal vi "
    "så etter alle når han hun seg mye bare over der ble hver mot hele nå noen hvor blir være meg dem sin ut",
    "Finnish": "ja on ei se että oli hän joka kun mutta ovat myös tai kuin sen niin jos vain ole olla voi sekä ne jo "
    "mukaan kanssa ennen jälkeen tämä tässä joka jotka sitä hänen kaikki nyt sitten vielä vuonna kello mitä",
    "Estonian": "ja on ei see et oli ta kui aga ka või mis kes oma nad ning selle seda kõik siis veel ole pole kell "
    "enne pärast juures iga mille nagu välja üle",
    "Hungarian": "a az és hogy nem is egy van meg ez azt volt ha csak már el de mint még vagy ami minden kell lesz "
    "ezt után alatt aki majd én mert nagyon itt ott olyan amely között ki be",
    "Polish": "i w na z nie się do jest że o jak po co od za przez ale tak był są dla oraz jego ze a tym które "
    "który tego może być czy tylko było przed jej lub już ich gdy bez każdy także została nad",
    "Czech": "a se v na je že s z do o i k ve pro za by ale jako po jsou od jeho který která které byl bylo být "
    "není také jen už ze si při nebo než tak však před jsem má může každý až podle když mezi ho u",
    "Slovak": "a sa v na je že s z do o aj k vo pre za by ale ako po sú od jeho ktorý ktorá ktoré bol bolo byť nie "
    "je tiež len už zo si pri alebo než tak však pred som má môže každý až podľa keď medzi ho u",
    "Croatian": "i u je na se da za su od s o iz kao ali koji koja koje bio bilo biti nije samo već po do te ili "
    "može nakon prije kada svi još što sve bez kod pri ne će li",
    "Romanian": "și de în la a cu pe nu că din este un o care mai pentru sunt se au fost ce al ale sau prin dar după "
    "fi către lui lor ca era când fără poate această acest am toate între cele cei vom va ne să ai",
    "Turkish": "ve bir bu da de için ile olarak olan daha çok en gibi kadar sonra ama değil olduğu var her ne o mi ki "
    "ya veya tüm göre önce yok şey bütün içinde her üzerinde ise eden iki olur ayrıca",
    "Vietnamese": "và của là có trong được cho các một những không người với để này từ đã khi đến",
    "Indonesian": "yang dan di dengan untuk ini itu dari dalam adalah pada tidak ke oleh akan juga atau sebagai telah "
    "ada bisa dapat setiap saya kami mereka lebih sudah harus hanya karena semua orang hari tersebut kepada pukul",
}
# Letters that tell languages apart; English has them in names at most.
_LETTERS = {
    "German": "äöüß", "French": "éèêàçùœîô", "Spanish": "áéíóúñ¿¡", "Italian": "àèìòù", "Portuguese": "ãõçáéêâóí",
    "Catalan": "çàèéíòóú", "Swedish": "åäö", "Danish": "æøå", "Norwegian": "æøå", "Finnish": "äö", "Estonian": "õäöü",
    "Hungarian": "őűáéíóöúü", "Polish": "ąćęłńóśźż", "Czech": "ěřůáčďéíňóšťúýž", "Slovak": "ľĺŕôäáčďéíňóšťúýž",
    "Croatian": "čćđšž", "Romanian": "ăâîșțşţ", "Turkish": "ğışçöü", "Vietnamese": "đơưạảấầậắếềểệịọỏốồộớờợụứừự",
}  # fmt: skip
# Of the words above, those that English texts hold too: they speak for no other language against English.
_ALSO_ENGLISH = "die hat war men van den son sans per non sin ten main come era sole bare mine dem hun will ha man ton"


def _profile() -> tuple[frozenset[str], frozenset[str], dict[str, tuple[str, ...]]]:
    """Words that only English has, words that English has not, and the languages of each word and letter."""
    languages: dict[str, list[str]] = {}
    for language, words in _COMMON_WORDS.items():
        for word in dict.fromkeys(words.split()):
            languages.setdefault(word, []).append(language)
    english = frozenset(_COMMON_WORDS["English"].split())
    others = frozenset(word for word, known in languages.items() if known != ["English"])
    for language, letters in _LETTERS.items():
        for letter in letters:
            languages.setdefault(f"-{letter}", []).append(language)
    foreign = {word for word in others - english if len(word) > 1} - set(_ALSO_ENGLISH.split())
    return english - others, frozenset(foreign), {feature: tuple(known) for feature, known in languages.items()}


_ONLY_ENGLISH, _FOREIGN, _LANGUAGES = _profile()
_WORDS = re.compile(r"[^\W\d_]+")
_LEAST_RUNNING_WORDS = 6
_LEAST_LETTER_SHARE = 0.8  # of what is not white space: prose has 0.95, code and tables 0.5 to 0.75


def plain_language(text: str) -> str | None:
    """The language of a text where it is plain to see, else None; NOT_ENGLISH where only that much is plain.

    A script other than Latin decides by itself. Texts of a few words, code, tables and lists of names give None.
    """
    sample = _sample(text)
    if not sample.isascii() and (script := _script(sample)):
        return script
    words = _WORDS.findall(sample)
    if sum(map(len, words)) < _LEAST_LETTER_SHARE * len("".join(sample.split())):
        return None
    running = [word for word in words if word.islower()]
    if len(running) < max(_LEAST_RUNNING_WORDS, 0.4 * len(words)):
        return None
    english = sum(word in _ONLY_ENGLISH for word in running)
    if english >= 0.1 * len(running):
        return "English"
    common = [word for word in running if word in _FOREIGN]
    marked = sum(not word.isascii() for word in running if word not in _FOREIGN)
    seen = len(common) + marked
    if seen < max(3, 2.5 * english, 0.22 * len(running)) or len(running) - len(common) < 3:
        return None
    if marked < 0.3 * len(running) and len(set(common)) < 3:
        return None
    return _named(running) or NOT_ENGLISH


def _sample(text: str) -> str:
    """A short text whole; of a longer one three pieces, none from where licences and mastheads stand."""
    length = len(text)
    if length <= 4 * _PIECE_CHARACTERS:
        return text
    starts = (length // 4, length // 2, 3 * length // 4)
    return " ".join(text[start : start + _PIECE_CHARACTERS] for start in starts)


def _named(words: list[str]) -> str | None:
    """The language whose words and letters these are, if no other comes near. What few languages have weighs more."""
    scores: dict[str, float] = {}
    for word, count in Counter(words).items():
        for feature in (word, *(f"-{letter}" for letter in set(word) if not letter.isascii())):
            known = _LANGUAGES.get(feature, ())
            for language in known:
                scores[language] = scores.get(language, 0.0) + count / len(known)
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    (best, score), (_, second) = [*ranked, ("", 0.0), ("", 0.0)][:2]
    return best if best != "English" and score >= 1.4 * second and score >= 0.12 * len(words) else None


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
    if found == NOT_ENGLISH:  # it may be one of the others
        return found if languages == {"English"} else None
    return None if found in languages else found
