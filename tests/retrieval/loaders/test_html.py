from __future__ import annotations

from collections.abc import Callable

import pytest

from carrel.errors import DocumentError, EmptyDocumentError
from carrel.retrieval.loaders.html import HtmlLoader
from carrel.types import Document, Skipped

Load = Callable[..., Document]
LoadAll = Callable[..., list[Document | Skipped]]
Kinds = Callable[[Document], list[tuple[str, str]]]

PAGE = """<!doctype html><html lang="en"><head><title>The
 Light</title><meta name="author" content="A. Fenn"><style>p { color: red }</style></head><body>
<nav><a href="/">Home</a></nav>
<h1>Greyhorn  <em>Light</em></h1>
<p>First lit in <b>1887</b>,<br>after a wreck.</p><script>alert("no")</script>
<p hidden>secret one</p><div style="display: none">secret two</div><p aria-hidden="true">secret three</p>
<ul><li>one <li>two<ol><li>inner</li><li>more</li></ol></li><li><p>three</p><p>goes on</p></li></ul>
<pre>  if x:
    y</pre>
<h2>Table</h2><table><caption>Ranges</caption><tr><th>From</th><th>Miles</th></tr>
<tr><td>1887<td>14 | 15</tr><tr></tr><tr><td>1926<br>spring</td><td>16</td></tr></table>
<!-- a comment -->tail text
</body></html>"""


def test_blocks(load: Load, kinds: Kinds) -> None:
    document = load(HtmlLoader(), PAGE)
    assert kinds(document) == [
        ("heading", "Greyhorn Light"),
        ("paragraph", "First lit in 1887,\nafter a wreck."),
        ("list", "- one\n- two\n  1. inner\n  2. more\n- three\n  goes on"),
        ("code", "  if x:\n    y"),
        ("heading", "Table"),
        ("paragraph", "Ranges"),
        ("table", "From | Miles\n1887 | 14 | 15\n1926 spring | 16"),
        ("paragraph", "tail text"),
    ]
    assert (document.title, document.metadata) == ("The Light", {"language": "en", "author": "A. Fenn"})
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    table = next(block for block in document.blocks if block.kind == "table")
    assert (table.header, table.joined) == ("From | Miles", True)


def test_only_the_main_part(load: Load) -> None:
    page = "<body><div>Cookies!</div><main><p>What the page is about, at some length.</p></main><footer>F</footer>"
    assert load(HtmlLoader(), page).text == "What the page is about, at some length."


def test_an_empty_main_part_is_not_the_page(load: Load) -> None:
    page = "<body><main><p>Loading</p></main><div>" + "All the words are out here. " * 10 + "</div>"
    assert "out here" in load(HtmlLoader(), page).text


def test_several_articles_are_all_kept(load: Load) -> None:
    page = "<article>first one</article><article>second one</article>"
    assert load(HtmlLoader(), page).text == "first one\n\nsecond one"


def test_a_fragment(load: Load, kinds: Kinds) -> None:
    assert kinds(load(HtmlLoader(), "just <b>words</b> &amp; more")) == [("paragraph", "just words & more")]


def test_a_table_that_lays_out_a_page_is_no_table(load: Load) -> None:
    page = "<table><tr><td><h1>Title</h1><p>Text.</p></td><td><ul><li>item</li></ul></td></tr></table>"
    assert [block.kind for block in load(HtmlLoader(), page).blocks] == ["heading", "paragraph", "list"]


def test_title_falls_back_to_the_heading_and_the_name(load: Load) -> None:
    assert load(HtmlLoader(), "<h1>The  light</h1><p>x</p>", "a/b.html").title == "The light"
    assert load(HtmlLoader(), "<p>x</p>", "a/b.html").title == "b"


def test_the_declared_encoding(load: Load) -> None:
    page = '<meta charset="iso-8859-2"><p>Žluťoučký</p>'.encode("iso-8859-2")
    assert load(HtmlLoader(), page).text == "Žluťoučký"


def test_an_xml_declaration(load: Load) -> None:
    page = '<?xml version="1.0" encoding="iso-8859-1"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Größe</body></html>'
    assert load(HtmlLoader(), page).text == "Größe"


@pytest.mark.parametrize("depth", [100, 300, 400, 2_500, 4_900])
def test_no_text_is_lost_however_deep_it_is(load: Load, depth: int) -> None:
    deep = "<div>" * depth + "<p>The vault code is <b>7781</b>.</p>" + "</div>" * depth
    document = load(HtmlLoader(), f"<p>Visible intro.</p>{deep}<p>Closing words.</p>")
    assert document.text == "Visible intro.\n\nThe vault code is 7781.\n\nClosing words."


def test_what_is_hidden_stays_hidden_however_deep_it_is(load: Load) -> None:
    for hidden in ("<div hidden><p>secret</p></div>", "<script>secret</script>", "<nav><p>secret</p></nav>"):
        assert load(HtmlLoader(), "<div>" * 800 + hidden + "<p>shown</p>").text == "shown"


def test_a_page_that_nests_without_end_is_read_in_part_and_says_so(load_all: LoadAll) -> None:
    document, skipped = load_all(HtmlLoader(), "<p>start</p>" + "<div>" * 20_000 + "deep" + "</div>" * 20_000)
    assert isinstance(document, Document) and document.text == "start"
    assert isinstance(skipped, Skipped) and skipped.id == document.id
    assert skipped.reason.startswith("read in part: it nests more than 5,000 elements")
    with pytest.raises(DocumentError, match=r"^a\.html could not be read: it nests more than 5,000 elements"):
        list(HtmlLoader().load(b"<div>" * 20_000 + b"deep", "a.html"))


def test_deep_lists(load: Load) -> None:
    assert load(HtmlLoader(), "<p>one</p>" + "<ul><li>x" * 2_000).text.count("x") == 2_000


def test_an_entity_bomb_is_not_expanded(load: Load) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><p>text &b;</p>'
    assert "aaaa" not in load(HtmlLoader(), bomb).text.replace('aaaaaaaaaa">', "")


def test_an_external_entity_is_not_read(load: Load) -> None:
    page = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><html><body><p>text &f; end</p></body></html>'
    assert "root:" not in load(HtmlLoader(), page).text


@pytest.mark.parametrize("page", ["<script>x</script>", "<html></html>", "<!-- only -->", "<img src='a'>", "<p> </p>"])
def test_a_page_without_text(page: str) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.html holds no text"):
        list(HtmlLoader().load(page.encode(), "a.html"))
