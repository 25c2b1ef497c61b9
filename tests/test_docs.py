"""The documentation hangs together, as far as can be told without building it."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import pytest

import interlace
from interlace import diagnostics, plots

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages by their name in the site, and the files that two of them include.
PAGES = {
    str(path.relative_to(DOCS).with_suffix("")): path
    for path in sorted(DOCS.rglob("*.md"))
    if "_build" not in path.parts
}
INCLUDED = {"changelog": ROOT / "CHANGELOG.md", "contributing": ROOT / "CONTRIBUTING.md"}
# What names in the tables of calls stand for.
NAMES = {
    "interlace": interlace,
    "result": interlace.CrossedLMEResult,
    "m1": interlace.CrossedLMEResult,
    "m2": interlace.CrossedLMEResult,
}


def text(page: str) -> str:
    """A page with what it includes."""
    own = PAGES[page].read_text(encoding="utf-8")
    return own + INCLUDED[page].read_text(encoding="utf-8") if page in INCLUDED else own


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^(`{3,}|:{3,}).*?^\1\s*$", "", text(page), flags=re.DOTALL | re.MULTILINE)


def cells(page: str) -> list[str]:
    """The code cells of a page, with their tags."""
    return re.findall(r"^```\{code-cell\}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading."""
    words = re.sub(r"[`*]|\{[\w:]+\}", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: str) -> set[str]:
    """Headings of the first three levels, and targets."""
    body = re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,3} (.+)$", body, re.MULTILINE)
    return {slug(h) for h in headings} | set(re.findall(r"^\(([\w-]+)\)=$", body, re.MULTILINE))


def links(page: str) -> list[str]:
    """Targets of Markdown links that stay within the site."""
    found = re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


# ------------------------------------------------------------------ pages


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {"index"}
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text(page), re.DOTALL):
            lines = [x for x in block.splitlines() if x.strip() and not x.startswith(":")]
            entries = [re.sub(r".*<(.+)>", r"\1", x) for x in lines]
            listed |= {str(Path(page).parent / x) for x in entries}
    assert listed == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(str(file.relative_to(DOCS).with_suffix(""))), target


@pytest.mark.parametrize("page", PAGES)
def test_cells(page: str) -> None:
    for cell in cells(page):
        # Such a cell is not run before the next visible one, and not at all if there is none.
        assert "remove-cell" not in cell
        assert all(len(line) <= 80 for line in cell.splitlines()), cell


def test_links_of_the_tutorial() -> None:
    """What the notebook the project started from links to is there."""
    for page in ("diagnostics", "api/result", "api/predict"):
        assert page in PAGES
    assert "reml-restricted-maximum-likelihood" in anchors("concepts")


def uses(source: str) -> set[str]:
    """Attributes read, functions called and keywords passed."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    found |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    return found | {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_tutorial_has_all_of_the_notebook() -> None:
    notebook = json.loads((ROOT / "tests/reference/interpreting-results.ipynb").read_text("utf-8"))
    theirs = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    ours = [
        re.sub(r"^:.*$", "", cell, flags=re.MULTILINE) for cell in cells("interpreting-results")
    ]
    assert uses("\n".join(theirs)) <= uses("\n".join(ours))


# ------------------------------------------------------------------ calls in tables


def calls(page: str, column: str) -> Iterator[str]:
    """Code in one column of the tables of a page."""
    at: int | None = None
    for line in text(page).splitlines():
        if not line.startswith("|"):
            at = None
            continue
        row = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if at is None:
            at = row.index(column) if column in row else -1
        elif at >= 0:
            yield from re.findall(r"`([^`]+)`", row[at])


def exists(owner: object, name: str) -> bool:
    """Whether an object has an attribute; a dataclass lacks fields that have no default."""
    return hasattr(owner, name) or name in getattr(owner, "__dataclass_fields__", {})


def asked(call: str) -> Iterator[tuple[str, bool]]:
    """What a call asks of the package, and whether it is there."""
    for node in ast.walk(ast.parse(call, mode="eval")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, hasattr(builtins, node.func.id)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner in NAMES:
                yield node.attr, exists(NAMES[owner], node.attr)


@pytest.mark.parametrize("page", ["for-lme4-users", "for-statsmodels-users"])
def test_calls_in_tables_exist(page: str) -> None:
    known = [(call, list(asked(call))) for call in calls(page, "interlace")]
    assert len(known) > 20
    for call, found in known:
        assert found, call
        assert all(there for _, there in found), call


# ------------------------------------------------------------------ reference


def documented() -> set[str]:
    """Names with an entry in the reference."""
    pages = "\n".join(text(page) for page in PAGES if page.startswith("api/"))
    return set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", pages, re.MULTILINE))


def resolve(name: str) -> object:
    """The object of a dotted name."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            found = inspect_attribute(found, part)
        return found
    raise AssertionError(name)


def inspect_attribute(owner: object, name: str) -> object:
    """An attribute; a descriptor itself rather than its value."""
    if isinstance(owner, type):
        for base in owner.__mro__:
            if name in vars(base):
                found = vars(base)[name]
                return found.func if isinstance(found, cached_property) else found
    return getattr(owner, name)


def test_every_public_name_has_an_entry() -> None:
    names = {f"interlace.{name}" for name in interlace.__all__}
    result = interlace.CrossedLMEResult
    fields = set(result.__dataclass_fields__)
    names |= {
        f"interlace.CrossedLMEResult.{name}"
        for name in dir(result)
        if not name.startswith("_") and name not in fields
    }
    for module in (plots, diagnostics):
        own = set(module.__all__) - set(interlace.__all__)
        names |= {f"{module.__name__}.{name}" for name in own}
    assert names <= documented(), sorted(names - documented())


def test_entries_exist_and_say_something() -> None:
    for name in documented():
        if "arginal" in name and not find_spec("marginaleffects"):
            continue  # opened by that package alone, which not every environment has
        assert getattr(resolve(name), "__doc__", None), name


# ------------------------------------------------------------------ contributors


def test_files_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package, beside = ROOT / "src" / "interlace", ROOT
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert (package / name).is_file() or (beside / name).is_file(), name
    for name in re.findall(r"pytest ([\w/]+\.py)", text):
        assert (beside / name).is_file(), name


def test_package_has_few_files_outside_its_folders() -> None:
    assert len(list((ROOT / "src" / "interlace").glob("*.py"))) <= 8


def test_map_names_every_module() -> None:
    """One line for every module, none for one that is gone."""
    source = ROOT / "src" / "interlace"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    modules = {name for name in modules if not name.endswith("/__init__.py")}
    rows = re.findall(r"^\| `([\w/]+\.py)` \|", text("contributing"), re.MULTILINE)
    assert sorted(rows) == sorted(modules)


def test_pre_commit_uses_the_ruff_of_the_checks() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (version,) = re.findall(r"ruff-pre-commit\n +rev: v([\d.]+)", config)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (wanted,) = [x for x in project["project"]["optional-dependencies"]["check"] if "ruff" in x]
    low, high = re.fullmatch(r"ruff>=([\d.]+),<([\d.]+)", wanted).groups()  # type: ignore[union-attr]

    def number(v: str) -> list[int]:
        return [int(part) for part in v.split(".")]

    assert number(low) <= number(version) < number(high)
