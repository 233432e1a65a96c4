"""Which scores the report shows for each question set, and what they are called."""

from __future__ import annotations

HEADLINE = {
    "squad": "answer",
    "nq": "answer",
    "musique": "all_gold_documents",
    "hotpotqa": "all_gold_documents",
    "scifact": "gold_documents",
    "spans": "span_recall",
    "qmsum": "span_recall",
    "squality": "gold_documents",
}
"""The one score of each set that the plots, the differences and the targets use."""

FURTHER = {
    "squad": ("answer_in_gold", "gold_documents"),
    "nq": ("answer_in_gold", "gold_documents"),
    "musique": ("answer", "gold_documents"),
    "hotpotqa": ("answer", "gold_documents"),
    "spans": ("span_iou", "span_precision"),
    "qmsum": ("gold_documents",),
}

NAMES = {
    "answer": "answer recall",
    "answer_in_gold": "answer recall within the gold document",
    "all_gold_documents": "all support",
    "gold_documents": "gold-document recall",
    "span_recall": "token recall",
    "span_precision": "token precision",
    "span_iou": "token IoU",
}

DEFINITIONS = {
    "answer": "share of questions with any gold answer in the context, SQuAD-normalised, as whole words; "
    "a short answer can stand there by luck",
    "answer_in_gold": "the same, looking only at the pieces of the gold document",
    "all_gold_documents": "share of questions with a piece of every gold document in the context",
    "gold_documents": "share of a question's gold documents with a piece in the context, mean over questions",
    "span_recall": "share of the gold spans' tokens that stand in the context, mean over questions",
    "span_precision": "share of the context's tokens that are gold",
    "span_iou": "gold tokens in the context divided by gold tokens and context tokens together",
}
