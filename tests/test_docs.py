"""The pages of docs/: their examples run and print what is shown, nothing public is left out, links lead somewhere."""

from __future__ import annotations

import functools
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bml import kernels
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
KERNEL_PAGES = [page for page in PAGES if page.parent.name == "kernels"]
# a page whose examples need one is skipped without it
OPTIONAL = {"polars": r"^(import|from) polars\b", "numba": r"\bkernels import .*window_feature\b"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
END_OF_BLOCK = "\x1e"


class Example(NamedTuple):
    """A python block, where its code is, and the text block right after it ("" without one)."""

    start: int
    stop: int
    code: str
    shown: str


def examples_of(text: str) -> list[Example]:
    found: list[Example] = []
    end_before = -1
    for match in FENCE.finditer(text):
        language, body = match.groups()
        if language == "python":
            found.append(Example(match.start(2), match.end(2), body, ""))
        elif language == "text":
            assert found, "a text block without an example before it"
            assert text[end_before : match.start()] == "\n", "a text block that is not right after its example"
            found[-1] = found[-1]._replace(shown=body)
        end_before = match.end()
    return found


def script_of(text: str) -> str:
    """The examples in order, each on the lines it has in the page; a mark is printed where one ends."""
    lines = [""] * (text.count("\n") + 1)
    for example in examples_of(text):
        first = text.count("\n", 0, example.start)
        code = example.code.splitlines()
        lines[first : first + len(code)] = code
        lines[first + len(code)] = f"print({END_OF_BLOCK!r})"
    return "\n".join(lines)


def told_by(script: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", script], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(END_OF_BLOCK + "\n")[:-1]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT / "docs"))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_examples_print_what_is_shown(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    for name, sign in OPTIONAL.items():
        if re.search(sign, script_of(text), flags=re.MULTILINE):
            pytest.importorskip(name)
    examples = examples_of(text)
    script = tmp_path / f"{page.stem}.py"
    script.write_text(script_of(text))
    assert told_by(script) == [example.shown for example in examples]


def test_an_example_that_prints_something_else_is_found(tmp_path: Path) -> None:
    page = "```python\nx = 1\n```\n\nWords.\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n"
    script = tmp_path / "page.py"
    script.write_text(script_of(page))
    assert told_by(script) == ["", "1\n"]
    assert [example.shown for example in examples_of(page)] == ["", "2\n"]
    assert script_of(page).splitlines()[7] == "print(x)"  # its line in the page
    with pytest.raises(AssertionError, match="right after"):
        examples_of(page.replace("```\n\n```text", "```\n\nWords.\n\n```text"))


@functools.cache
def documented() -> dict[str, str]:
    """The page of every name that some heading of docs/kernels or some page is called after."""
    found: dict[str, str] = {}
    for page in KERNEL_PAGES:
        text = page.read_text()
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
            found |= dict.fromkeys(re.findall(r"\w+", heading), text)
        found |= dict.fromkeys(re.findall(r"^`(\w+)` is an IntFlag", text, flags=re.MULTILINE), text)
    return found


def parts_of(name: str) -> set[str]:
    """What a reader of its page must find there: parameters, fields, flags."""
    public = getattr(kernels, name)
    if hasattr(public, "__members__"):
        return {f"{name}.{member}" for member in public.__members__}
    return set(getattr(public, "_fields", None) or inspect.signature(public).parameters)


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert name in documented(), f"no page or heading of docs/kernels names {name}"
    words = set(re.findall(r"[\w.]+", documented()[name])) | set(re.findall(r"\w+", documented()[name]))
    assert parts_of(name) - {"threads"} <= words


def test_the_index_links_every_page() -> None:
    targets = LINK.findall((ROOT / "docs" / "kernels" / "index.md").read_text())
    assert {page.name for page in KERNEL_PAGES} - {"index.md"} <= set(targets)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", to.read_text(), flags=re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_is_plain_text_in_short_lines(page: Path) -> None:
    text = page.read_text()
    assert text.isascii()
    assert [line for line in text.splitlines() if len(line) > 130 and not line.startswith("|")] == []


@pytest.mark.slow
def test_examples_satisfy_a_strict_type_checker(tmp_path: Path) -> None:
    for name in ("mypy", *OPTIONAL):
        pytest.importorskip(name)
    for page in KERNEL_PAGES:
        if examples_of(page.read_text()):
            (tmp_path / f"{page.stem}_example.py").write_text(script_of(page.read_text()))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", tmp_path],
        env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
