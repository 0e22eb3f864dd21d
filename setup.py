"""The part of the package's metadata that is computed: README.md as a package index shows it.

An index shows no files, so links to files of the repository become links to `Repository` of `[project.urls]` in
pyproject.toml, at the tag of the version. Without that URL a link becomes its text, and a picture is left out.
Everything else about the package is in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
# A link or a picture, whose address is neither a URL nor a heading of the same page.
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<address>(?!https?:|#)[^)]+)\)")
VERSION = re.compile(r'^__version__ = "(.+)"$', flags=re.M)


def for_an_index(readme: str, repository: str, version: str) -> str:
    """The README with addresses that hold outside the repository.

    Args:
        readme: README.md, whose addresses of files are relative to the root of the repository.
        repository: URL of the repository, or "" if it has none.
        version: Version of the package; its tag is v and the version.
    """
    def outside(link: re.Match) -> str:
        if not repository:
            return "" if link["picture"] else link["text"]
        view = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({repository.rstrip('/')}/{view}/v{version}/{link['address']})"

    return re.sub(r"\n{3,}", "\n\n", LINK.sub(outside, readme))


def long_description() -> str:
    """README.md of this source tree, for its own version and URL."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = VERSION.search((ROOT / "pnas_tf" / "__init__.py").read_text(encoding="utf-8"))[1]
    return for_an_index((ROOT / "README.md").read_text(encoding="utf-8"),
                        project.get("urls", {}).get("Repository", ""), version)


if __name__ == "__main__":
    setup(long_description=long_description(), long_description_content_type="text/markdown")
