"""The layout, read from the sources: layers, circles, sizes and docstrings.

docs/architecture.md holds the order of the layers and names every module.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import nasnet_cli

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nasnet_cli"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

PATHS = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}

# Python beside the package, whose language is checked too.
SCRIPTS = ("tests", "recipes", "benchmarks", "docs")

LONGEST_MODULE = 400

# First words of docstrings that are neither an imperative nor a noun phrase: question words, and
# verbs in the third person. "From a path to …" introduces a stage of the pipeline by its two ends.
NO_BEGINNING = re.compile(
    r"(?!From .* to )"
    r"(What|Whether|How|Where|Which|Who|Why|When|If|For|In|From|That|It|This"
    r"|Adds|Answers|Applies|Asks|Builds|Calls|Checks|Chooses|Closes|Compares|Computes|Contains"
    r"|Converts|Copies|Creates|Decides|Decodes|Describes|Does|Downloads|Draws|Drops|Ends|Extracts"
    r"|Fetches|Finds|Follows|Gets|Gives|Goes|Has|Hears|Holds|Is|Joins|Keeps|Knows|Lets|Listens"
    r"|Loads|Makes|Maps|Merges|Moves|Opens|Parses|Prints|Puts|Raises|Reads|Receives|Refuses"
    r"|Removes|Replaces|Returns|Runs|Says|Sees|Sends|Shows|Starts|Stores|Takes|Tells|Tries|Turns"
    r"|Unpacks|Updates|Waits|Writes|Yields)\b"
)


@dataclass(frozen=True)
class Import:
    """One module that another imports, and whether it does so as soon as it is imported itself."""

    module: str
    at_once: bool


def imports_of(name: str) -> Iterator[Import]:
    """Find a module's imports from this package, those in functions and for types included."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            match child:
                case ast.Import(names=names):
                    targets = [alias.name for alias in names]
                case ast.ImportFrom(level=level) if level:
                    raise AssertionError(f"{name} has a relative import, which hides its layer")
                case ast.ImportFrom(module=str(module), names=names):
                    members = [f"{module}.{alias.name}" for alias in names]
                    targets = [member if member in PATHS else module for member in members]
                case _:
                    targets = []
            yield from (Import(t, at_once) for t in targets if t in PATHS)
            yield from visit(child, at_once and not in_function and not for_types)

    return visit(TREES[name], True)


def part_of(name: str) -> str:
    """Return the folder or module at the top of the package that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


def layers() -> list[list[str]]:
    """Read the layers from docs/architecture.md, topmost first; each line is one layer."""
    block = re.search(r"```layers\n(.*?)```", PAGE, re.DOTALL)
    assert block, "docs/architecture.md has no block of layers"
    return [re.findall(r"\w+", line) for line in block[1].splitlines()]


def test_imports_point_down():
    """A layer imports those below it; parts of one layer do not know each other.

    The package itself is exempt: it re-exports names on demand, and others ask it for its version.
    """
    rank = {part: number for number, layer in enumerate(layers()) for part in layer}
    parts = {part_of(name) for name in PATHS} - {""}
    assert parts <= rank.keys(), "docs/architecture.md has no layer for these"
    assert rank.keys() <= parts, "docs/architecture.md has layers of parts that do not exist"
    upward = {
        f"{name} imports {found.module}"
        for name in PATHS
        for found in imports_of(name)
        if (mine := part_of(name)) and (theirs := part_of(found.module)) and mine != theirs
        if rank[mine] >= rank[theirs]
    }
    assert upward == set()


def test_modules_do_not_import_each_other_in_circles():
    graph = {
        name: {found.module for found in imports_of(name) if found.at_once} - {name}
        for name in PATHS
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_modules_are_short():
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in PATHS.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_the_page_names_every_module():
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))
    named = {
        name for name, path in PATHS.items() if path.stem.startswith("__") or path.stem in words
    }
    assert PATHS.keys() - named == set()


def test_public_names_have_docstrings():
    missing = {
        f"{name}: {definition.name}"
        for name, tree in TREES.items()
        for definition in tree.body
        if isinstance(definition, ast.ClassDef | ast.FunctionDef)
        if not definition.name.startswith("_") and not ast.get_docstring(definition)
    }
    assert missing == set()
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


@pytest.mark.parametrize("name", nasnet_cli.__all__)
def test_the_api_has_docstrings_on_methods_too(name):
    value = getattr(nasnet_cli, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        methods = inspect.getmembers(value, inspect.isfunction)
        own = [m for n, m in methods if not n.startswith("_") and m.__module__ == value.__module__]
        assert [method.__name__ for method in own if not inspect.getdoc(method)] == []


def test_docstrings_begin_with_a_verb_or_a_noun():
    scripts = [path for folder in SCRIPTS for path in sorted((ROOT / folder).rglob("*.py"))]
    trees = {str(path): ast.parse(path.read_text(encoding="utf-8")) for path in scripts} | TREES
    found = {
        f"{name}: {text.splitlines()[0]}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if (text := ast.get_docstring(node)) and NO_BEGINNING.match(text)
    }
    assert found == set()
