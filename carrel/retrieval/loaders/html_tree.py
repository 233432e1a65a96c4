"""HTML to a tree of what is shown: whatever a page nests, repeats or hides, in time that grows with its length."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

_DROPPED_TAGS = (
    "script style noscript template nav svg math iframe object embed canvas audio video map "
    "button input select textarea datalist dialog"
)
_INLINE_TAGS = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small "
    "span strike strong sub sup time tt u var wbr"
)
_DROPPED = frozenset(_DROPPED_TAGS.split())
INLINE = frozenset(_INLINE_TAGS.split())
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ROLES = ("main", "presentation", "none")
_METADATA = ("author", "description", "date")
_TREE_DEPTH = 500  # what nests deeper is kept, one beside the other
_MAX_DEPTH = 5_000  # libxml2 looks through all open elements at each stray end tag: without a limit, for hours


class Page:
    """A parsed page: the tree of what it shows, its title and metadata, and why it was not read to its end.

    The tree is built from the parser's events, not by the parser: libxml2 drops whatever nests deeper than 256
    (or 2,048) elements, and takes quadratic time for the attributes of one element.
    """

    def __init__(self, text: str) -> None:
        from lxml import etree

        target = _Target()
        parser = etree.HTMLParser(target=target, encoding="utf-8", no_network=True, huge_tree=True)
        self.problem = ""
        try:
            etree.fromstring(text.encode("utf-8"), parser)
        except _TooDeepError:
            self.problem = f"it nests more than {_MAX_DEPTH:,} elements, and what comes after that was not read"
        else:
            fatal = [entry.message for entry in parser.error_log if entry.level == etree.ErrorLevels.FATAL]
            if fatal:
                self.problem = f"the parser stopped before its end: {fatal[0].strip()}"
        self.root: _Element = target.tree()
        self.title = " ".join("".join(target.title).split())
        self.metadata: dict[str, str] = target.metadata


class _TooDeepError(Exception):
    """Ends the parse."""


class _Target:
    """Builds the tree from what the parser sees; of what is not shown, nothing is kept."""

    def __init__(self) -> None:
        from lxml import etree

        self.title: list[str] = []
        self.metadata: dict[str, str] = {}
        self._builder = etree.TreeBuilder()
        self._open: list[str] = []
        self._hidden_at = 0  # the depth of the element whose content is left out; 0: none
        self._title_at = 0
        self._titled = False
        self._builder.start("page", {})

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._open.append(tag)
        depth = len(self._open)
        if depth > _MAX_DEPTH:
            raise _TooDeepError
        if self._hidden_at:
            return
        if tag in ("html", "meta"):
            self._describe(tag, attributes)
        if tag == "title":
            self._title_at, self._titled = 0 if self._titled else depth, True
        if tag in _DROPPED or tag in ("title", "meta") or _is_hidden(attributes):
            self._hidden_at = depth
        elif depth <= _TREE_DEPTH:
            role = attributes.get("role", "")
            self._builder.start(_name(tag), {"role": role} if role in _ROLES else {})
        else:
            self._break(tag)

    def end(self, tag: str) -> None:
        depth = len(self._open)
        self._open.pop()
        if depth == self._title_at:
            self._title_at = 0
        if self._hidden_at:
            if depth == self._hidden_at:
                self._hidden_at = 0
        elif depth <= _TREE_DEPTH:
            self._builder.end(_name(tag))
        else:
            self._break(tag)

    def data(self, text: str) -> None:
        if self._title_at:
            self.title.append(text)
        elif not self._hidden_at:
            self._builder.data(_NOT_IN_XML.sub(" ", text))

    def close(self) -> None:
        """Whatever is still open is closed by ``tree``."""

    def tree(self) -> _Element:
        """The root, an element of its own, once the parse has ended."""
        depth = min(len(self._open), _TREE_DEPTH)
        if self._hidden_at:
            depth = min(depth, self._hidden_at - 1)
        for tag in reversed(self._open[:depth]):
            self._builder.end(_name(tag))
        return self._builder.end("page")

    def _break(self, tag: str) -> None:
        """Keep apart what stood in different blocks."""
        if tag not in INLINE:
            self._builder.start("p", {})
            self._builder.end("p")

    def _describe(self, tag: str, attributes: Mapping[str, str]) -> None:
        content = attributes.get("content", "").strip()
        if tag == "html" and attributes.get("lang"):
            self.metadata["language"] = attributes["lang"]
        elif tag == "meta" and attributes.get("name") in _METADATA and content:
            self.metadata.setdefault(attributes["name"], content)


def _name(tag: str) -> str:
    """A name that a tree takes: HTML lets an element be called anything."""
    return tag if tag.isalnum() and tag.isascii() else "div"


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    return bool(attributes) and (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") == "navigation"
        or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
    )
