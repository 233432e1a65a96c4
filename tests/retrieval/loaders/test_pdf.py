from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable

import pytest

from carrel.errors import DocumentError, EmptyDocumentError, EncryptedDocumentError
from carrel.retrieval.loaders import pdf as pdf_loader
from carrel.retrieval.loaders.pdf import PdfLoader
from carrel.types import Document

Load = Callable[..., Document]
Kinds = Callable[[Document], list[tuple[str, str]]]
MakePdf = Callable[..., bytes]
Paragraph = Callable[..., list[tuple[float, float, float, str]]]

# One page, "The key is under the mat.", written by fpdf2 with a user password.
ENCRYPTED = base64.b64decode(
    """
    JVBERi0xLjUKJenr8b8KMSAwIG9iago8PAovQ291bnQgMQovS2lkcyBbMyAwIFJdCi9NZWRpYUJveCBbMCAwIDU5NS4yOCA4NDEuODldCi9UeX
    BlIC9QYWdlcwo+PgplbmRvYmoKMiAwIG9iago8PAovT3BlbkFjdGlvbiBbMyAwIFIgL0ZpdEggbnVsbF0KL1BhZ2VMYXlvdXQgL09uZUNvbHVt
    bgovUGFnZXMgMSAwIFIKL1R5cGUgL0NhdGFsb2cKPj4KZW5kb2JqCjMgMCBvYmoKPDwKL0NvbnRlbnRzIDQgMCBSCi9Hcm91cCA8PC9UeXBlIC
    9Hcm91cCAvUyAvVHJhbnNwYXJlbmN5IC9DUyAvRGV2aWNlUkdCPj4KL1BhcmVudCAxIDAgUgovUmVzb3VyY2VzIDYgMCBSCi9UeXBlIC9QYWdl
    Cj4+CmVuZG9iago0IDAgb2JqCjw8Ci9GaWx0ZXIgL0ZsYXRlRGVjb2RlCi9MZW5ndGggODUKPj4Kc3RyZWFtCgSAV8j+X7PsIFyebq3jprKPux
    dT8yV0OPBLxtbLG/EIDsObEp/pf//qEeP39xgbF3cO28zsqr9Mt0rQvSTQOlnm4I93qdn1dCf9ORDmj9B367+OylYKZW5kc3RyZWFtCmVuZG9i
    ago1IDAgb2JqCjw8Ci9CYXNlRm9udCAvSGVsdmV0aWNhCi9FbmNvZGluZyAvV2luQW5zaUVuY29kaW5nCi9TdWJ0eXBlIC9UeXBlMQovVHlwZS
    AvRm9udAo+PgplbmRvYmoKNiAwIG9iago8PAovRm9udCA8PC9GMSA1IDAgUj4+Ci9Qcm9jU2V0IFsvUERGIC9UZXh0IC9JbWFnZUIgL0ltYWdl
    QyAvSW1hZ2VJXQo+PgplbmRvYmoKNyAwIG9iago8PAovQ3JlYXRpb25EYXRlIDxDODRCMTA1NjVDQjQ4MTcyRjEzNkJGNjk3RjNDQUY0NjgyPg
    o+PgplbmRvYmoKOCAwIG9iago8PAovRW5jcnlwdE1ldGFkYXRhIGZhbHNlCi9GaWx0ZXIgL1N0YW5kYXJkCi9MZW5ndGggMTI4Ci9PIDwwQkEz
    ODM1Rjg4RjkwMzg4RTc0RTU0NTg0MTI1Q0UxNDJCRTBERTI0QzZCMEQzNzc0NkUwNzVCODkxNzU2NjcxPgovUCAtNAovUiAzCi9TdG1GIC9TdG
    RDRgovU3RyRiAvU3RkQ0YKL1UgPDFBQkFEOEY0RTRDM0VFMEYzN0JEQTFBMEM0NDI3MTY2MzIwNTk2QUFBQUI2NjQ0RTUzQkRFRkY2M0JCODcw
    NkU+Ci9WIDIKPj4KZW5kb2JqCnhyZWYKMCA5CjAwMDAwMDAwMDAgNjU1MzUgZiAKMDAwMDAwMDAxNSAwMDAwMCBuIAowMDAwMDAwMTAyIDAwMD
    AwIG4gCjAwMDAwMDAyMDUgMDAwMDAgbiAKMDAwMDAwMDM0MSAwMDAwMCBuIAowMDAwMDAwNDk3IDAwMDAwIG4gCjAwMDAwMDA1OTQgMDAwMDAg
    biAKMDAwMDAwMDY4MSAwMDAwMCBuIAowMDAwMDAwNzUzIDAwMDAwIG4gCnRyYWlsZXIKPDwKL1NpemUgOQovUm9vdCAyIDAgUgovSW5mbyA3ID
    AgUgovRW5jcnlwdCA4IDAgUgovSUQgWzwxQTlBNDQwMkEyRTkxM0E5MTFCNzBGRUZFMzZCRDRCOD48MUE5QTQ0MDJBMkU5MTNBOTExQjcwRkVG
    RTM2QkQ0Qjg+XQo+PgpzdGFydHhyZWYKMTAwOQolJUVPRgo=
    """
)

LONG = [
    "The harbour was closed for three days, and the ferry did not come",
    "in until the wind had gone round to the west and the swell was",
    "down to what the mooring gang calls a lady's handkerchief.",
]


def test_lines_become_paragraphs(load: Load, kinds: Kinds, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    page = [*paragraph(LONG, top=500), *paragraph(["Next, a second paragraph stands here."], top=440)]
    document = load(PdfLoader(), make_pdf([page]))
    assert kinds(document) == [("paragraph", " ".join(LONG)), ("paragraph", "Next, a second paragraph stands here.")]
    assert document.pages == (0,)


def test_a_sentence_goes_on_over_the_page(load: Load, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    document = load(PdfLoader(), make_pdf([paragraph(LONG[:2]), paragraph(LONG[2:])]))
    assert document.text == " ".join(LONG)
    assert document.text[document.pages[1] :] == LONG[2]
    assert len(document.blocks) == 1


def test_hyphens_at_line_ends(load: Load, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    lines = [
        "The board asked for a thorough exam-",
        "ination of the quays by a well-",
        "known engineer, of the Anglo-",
        "Saxon crane, and of its re-entry and re-",
        "entry papers, which took all of May.",
    ]
    assert load(PdfLoader(), make_pdf([paragraph(lines)])).text == (
        "The board asked for a thorough examination of the quays by a well-known engineer, of the Anglo-Saxon crane, "
        "and of its re-entry and re-entry papers, which took all of May."
    )


def test_headings_have_levels(load: Load, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    page = [(40.0, 550.0, 20.0, "Report"), (40.0, 525.0, 14.0, "Traffic"), *paragraph(LONG)]
    document = load(PdfLoader(), make_pdf([page]), "x/report-1.pdf")
    assert [(block.kind, block.level) for block in document.blocks] == [
        ("heading", 1),
        ("heading", 2),
        ("paragraph", 0),
    ]
    assert document.title == "Report"


def test_a_table_with_its_caption(load: Load, kinds: Kinds, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    rows = [["Cargo", "2022", "2023"], ["Timber", "8,730", "7,910"], ["Fish landed", "5,340", "6,270"]]
    cells = [(40.0 + 120 * x, 440.0 - 14 * y, 10.0, text) for y, row in enumerate(rows) for x, text in enumerate(row)]
    page = [*paragraph(LONG, top=550), *paragraph(["Table 1. Cargo in tonnes"], top=470), *cells]
    document = load(PdfLoader(), make_pdf([page]))
    assert kinds(document)[1:] == [
        ("paragraph", "Table 1. Cargo in tonnes"),
        ("table", "Cargo | 2022 | 2023\nTimber | 8,730 | 7,910\nFish landed | 5,340 | 6,270"),
    ]
    assert (document.blocks[-1].header, document.blocks[-1].joined) == ("Cargo | 2022 | 2023", True)


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_lines_come_in_the_order_in_which_the_text_runs(
    load: Load, make_pdf: MakePdf, paragraph: Paragraph, rotate: int, turned: int
) -> None:
    rows = [["Cargo", "2022", "2023"], ["Timber", "8,730", "7,910"], ["Fish landed", "5,340", "6,270"]]
    cells = [(40.0 + 100 * x, 300.0 - 14 * y, 10.0, text) for y, row in enumerate(rows) for x, text in enumerate(row)]
    page = [(40.0, 400.0, 20.0, "Report"), *paragraph(LONG, top=380), *paragraph(["A second one."], top=330), *cells]
    upright, page_2 = make_pdf([page, paragraph(["The end."])]), paragraph(["The end."])
    document = load(PdfLoader(), make_pdf([page, page_2], rotate=rotate, turned=turned))
    assert document.blocks == load(PdfLoader(), upright).blocks
    assert document.text == "\n\n".join(
        [
            "Report",
            " ".join(LONG),
            "A second one.",
            "Cargo | 2022 | 2023\nTimber | 8,730 | 7,910\nFish landed | 5,340 | 6,270",
            "The end.",
        ]
    )


def test_a_few_turned_words_do_not_turn_the_page(load: Load, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    mark = b"BT /F1 8 Tf 0 1 -1 0 20 200 Tm (In the margin.) Tj ET\n"
    plain = make_pdf([paragraph(LONG)])
    length = int(plain.split(b"/Length ")[2].split()[0])
    data = plain.replace(f"/Length {length} ".encode(), f"/Length {length + len(mark)} ".encode())
    document = load(PdfLoader(), data.replace(b"endstream\nendobj\nxref", mark + b"endstream\nendobj\nxref"))
    assert " ".join(LONG) in document.text and "In the margin." in document.text


def test_an_empty_page_has_a_start(load: Load, make_pdf: MakePdf, paragraph: Paragraph) -> None:
    document = load(PdfLoader(), make_pdf([paragraph(["First page."]), [], paragraph(["Third page."]), []]))
    assert document.text == "First page.\n\nThird page."
    assert len(document.pages) == 4
    assert document.text[document.pages[2] :] == "Third page."
    assert document.pages[3] == len(document.text)


@pytest.mark.parametrize(("title", "expected"), [("The Log", "The Log"), ("Untitled", "b"), ("", "b")])
def test_title(load: Load, make_pdf: MakePdf, paragraph: Paragraph, title: str, expected: str) -> None:
    assert load(PdfLoader(), make_pdf([paragraph(["Words."])], title=title), "a/b.pdf").title == expected


def test_a_scan_needs_ocr(make_pdf: MakePdf) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.pdf holds only images.*OCR"):
        list(PdfLoader().load(make_pdf([[], []], image=True), "a.pdf"))


def test_blank_pages_are_no_scan(make_pdf: MakePdf) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.pdf holds no text"):
        list(PdfLoader().load(make_pdf([[]]), "a.pdf"))


def test_a_password() -> None:
    with pytest.raises(EncryptedDocumentError, match=r"^a\.pdf needs a password"):
        list(PdfLoader().load(ENCRYPTED, "a.pdf"))


def test_the_message_has_one_end() -> None:
    with pytest.raises(DocumentError, match=r"^a\.pdf is no PDF [^.]*[^.) ]\)?\. It may be cut off"):
        list(PdfLoader().load(b"%PDF-1.4 and then nothing", "a.pdf"))


def test_every_truncation_is_a_document_error(make_pdf: MakePdf, paragraph: Paragraph) -> None:
    data = make_pdf([paragraph(LONG), paragraph(LONG)])
    for size in range(1, len(data) - 8, 97):
        with pytest.raises(DocumentError, match=r"^a\.pdf "):
            list(PdfLoader().load(data[:size], "a.pdf"))


def test_damage_is_a_document_error_or_read(make_pdf: MakePdf, paragraph: Paragraph) -> None:
    data = make_pdf([paragraph(LONG)])
    for position in range(8, len(data) - 10, 41):
        damaged = data[:position] + b"\xff<<[" + data[position + 4 :]
        with contextlib.suppress(DocumentError):
            list(PdfLoader().load(damaged, "a.pdf"))


def test_pdfium_is_used_by_one_thread_at_a_time(make_pdf: MakePdf, paragraph: Paragraph) -> None:
    data = make_pdf([paragraph(LONG)])
    thread = threading.Thread(target=lambda: list(PdfLoader().load(data, "a.pdf")))
    with pdf_loader._PDFIUM:
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()


def test_threads(make_pdf: MakePdf, paragraph: Paragraph) -> None:
    data = make_pdf([paragraph(LONG)] * 20)
    texts: list[str] = []

    def read() -> None:
        for _ in range(3):
            texts.extend(item.text for item in PdfLoader().load(data, "a.pdf") if isinstance(item, Document))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 12
    assert len(set(texts)) == 1
