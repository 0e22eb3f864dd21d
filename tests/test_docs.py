"""Documents fit on the screen, and their links and paths lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
MAX_LINE = 100
# Files of this repository in backticks; names of files that a command writes have no such folder.
PATH = re.compile(r"`((?:pnas_tf|export|latency|benchmarks|tests|scripts|flags|docs)/[\w./]+)`")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def headings(path):
    """Anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_lines_are_at_most_100_characters_long(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{path.name}:{number}" for number, line in enumerate(lines, 1) if len(line) > MAX_LINE]


@each_document
def test_links_lead_to_files_and_headings(path):
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_links_lead_from_readme_to_every_page():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        reached.add(path)
        links = re.findall(r"\]\((?!http)([^)#]+\.md)[^)]*\)", path.read_text(encoding="utf-8"))
        ahead += [page for link in links if (page := (path.parent / link).resolve()) not in reached]
    assert set(ROOT.glob("docs/*.md")) <= reached


@each_document
def test_paths_exist(path):
    for name in PATH.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name
