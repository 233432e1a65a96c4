"""What is written around a question or a passage before a model reads it: prefixes, instructions, worked examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carrel.errors import InputError
from carrel.inputs import check_text

INSTRUCT = "Instruct: {task}\nQuery: {query}"
"""Wang et al., "Improving Text Embeddings with Large Language Models" (E5-Mistral), arXiv 2401.00368."""
GRIT = "<|user|>\n{task}\n<|embed|>\n{query}"
"""Muennighoff et al., "Generative Representational Instruction Tuning" (GritLM), arXiv 2402.09906."""
ICL = "<instruct>{task}\n<query>{query}"
"""Li et al., "Making Text Embedders Few-Shot Learners" (bge-en-icl), arXiv 2409.15700."""
_ICL_RESPONSE = "\n<response>"
_QUERY_NAMES = ("query",)
_DOCUMENT_NAMES = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True)
class Template:
    """What stands before and after a text."""

    before: str = ""
    after: str = ""

    def around(self, text: str) -> str:
        return f"{self.before}{text}{self.after}"


@dataclass(frozen=True, slots=True)
class Prompts:
    """The templates of a model, for questions and for what answers them."""

    query: Template = field(default_factory=Template)
    document: Template = field(default_factory=Template)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """All four texts, for a fingerprint."""
        return self.query.before, self.query.after, self.document.before, self.document.after

    def overridden(self, query: str | Template | None, document: str | Template | None) -> Prompts:
        """The same with what a user gives instead; None leaves the model's own, an empty text takes it away."""
        return Prompts(
            _template("query_prompt", query, self.query), _template("document_prompt", document, self.document)
        )


E5 = Prompts(Template("query: "), Template("passage: "))
"""Wang et al., "Text Embeddings by Weakly-Supervised Contrastive Pre-training" (E5), arXiv 2212.03533."""
NOMIC = Prompts(Template("search_query: "), Template("search_document: "))
"""Nussbaum et al., "Nomic Embed", arXiv 2402.01613."""
BGE = Prompts(Template("Represent this sentence for searching relevant passages: "))
"""Xiao et al., "C-Pack" (BGE, English), arXiv 2309.07597."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question of a task with a passage that answers it, shown to the model before the question at hand."""

    query: str
    response: str
    task: str | None = None


def instruct(task: str, form: str = INSTRUCT) -> Template:
    """The instruction of an LLM embedder: say what the search is for, then the question.

    Parameters
    ----------
    task : such as "Given a web search query, retrieve relevant passages that answer the query".
    form : with ``{task}`` and ``{query}``; E5-Mistral's, which most take. Others: ``GRIT``, ``ICL``.

    Raises
    ------
    InputError : the form lacks one of the two, or has it twice.
    """
    check_text("a task", task)
    if form.count("{task}") != 1 or form.count("{query}") != 1:
        raise InputError(f"an instruction's form has {{task}} and {{query}} once each, not {form!r}")
    before, _, after = form.partition("{query}")
    return Template(before.replace("{task}", task), after.replace("{task}", task))


def few_shot(task: str, examples: Sequence[Example] = ()) -> Template:
    """The instruction with worked examples before it, as bge-en-icl reads them.

    Each example is its task, question and response; they are parted by empty lines, and the question at hand ends
    where its response would begin. Without examples it is the model's zero-shot prompt. The vector is the state of
    the last token, so the model must be one of last-token pooling.

    Reference: Li et al., "Making Text Embedders Few-Shot Learners", arXiv 2409.15700.

    Raises
    ------
    InputError : an example is none.
    """
    shown = []
    for example in examples:
        if not isinstance(example, Example):
            raise InputError(f"an example is a carrel.embeddings.instructions.Example, not {example!r:.100}")
        asked = instruct(example.task or task, ICL).around(example.query)
        shown.append(f"{asked}{_ICL_RESPONSE}{example.response}\n\n")
    return Template("".join(shown) + instruct(task, ICL).before, _ICL_RESPONSE)


def declared(names: Mapping[str, object], default: str | None = None) -> Prompts:
    """The prompts that a model declares by name, as sentence-transformers reads them.

    Parameters
    ----------
    names : prompts by name, of ``config_sentence_transformers.json``: "query", and "document", "passage" or "corpus".
    default : the name of the prompt for whatever has none of its own.
    """
    known = {name: value for name, value in names.items() if isinstance(value, str)}
    usual = known.get(default, "") if default is not None else ""
    query, document = (
        next((known[name] for name in wanted if name in known), usual) for wanted in (_QUERY_NAMES, _DOCUMENT_NAMES)
    )
    return Prompts(Template(query), Template(document))


def _template(what: str, value: str | Template | None, usual: Template) -> Template:
    if value is None:
        return usual
    return value if isinstance(value, Template) else Template(check_text(what, value))
