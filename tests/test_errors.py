"""The error tree is as drawn, and every text tells what to do."""

from __future__ import annotations

import inspect
import re

import pytest

from carrel import errors

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}


def drawn() -> dict[str, str]:
    """Class -> parent, as the tree at the top of the file draws them."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([│├└─ ]*)([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above = [*above[:depth], found[2]]
        if depth:
            parents[found[2]] = above[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    real = {name: value.__base__.__name__ for name, value in CLASSES.items() if name != "CarrelError"}
    assert drawn() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_ours_and_says_what_it_means(name: str) -> None:
    assert issubclass(CLASSES[name], errors.CarrelError)
    assert CLASSES[name].__doc__


def test_no_error_hides_a_builtin_one() -> None:
    import builtins

    assert not [name for name in CLASSES if hasattr(builtins, name)]


def test_a_missing_dependency_names_package_extra_and_command() -> None:
    text = str(errors.MissingDependencyError("vllm", "vllm", "Fast generation"))
    assert text == "Fast generation needs the package 'vllm'. Install it with: pip install 'carrel[vllm]'"
