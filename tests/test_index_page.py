"""README as the page of a package index: no link or picture needs the files of the repository."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "https://git.example.org/maintainers/pnas_tf"


@pytest.fixture(scope="module")
def setup():
    """setup.py, without building anything."""
    spec = importlib.util.spec_from_file_location("setup_of_pnas_tf", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def addresses(page):
    return re.findall(r"\]\(([^)]+)\)", page)


@pytest.mark.parametrize("repository", [URL, f"{URL}/", ""])
def test_every_address_holds_outside_the_repository(setup, repository):
    page = setup.for_an_index(README, repository, "1.2.3")
    assert not [address for address in addresses(page) if not re.match("https?://|#", address)]
    assert page.count(f"{URL}/raw/v1.2.3/docs/on_target_quickstart.svg") == bool(repository)
    assert page.count(f"({URL}/blob/v1.2.3/docs/results.md#from-a-pretrained-network)") == bool(repository)
    # Links of the web and everything else stay as they are.
    assert "[ProxylessNAS](https://arxiv.org/abs/1812.00332)" in page and "```python\nimport pnas_tf\n" in page


def test_addresses_of_the_page_are_files_of_the_repository(setup):
    for address in addresses(setup.for_an_index(README, URL, "1.2.3")):
        if address.startswith(URL):
            assert (ROOT / re.sub(f"{URL}/(raw|blob)/v1.2.3/|#.*", "", address)).is_file(), address


def test_texts_without_links_name_the_files(setup):
    """Without a URL, a reader still learns which file of the source distribution to open."""
    page = setup.for_an_index(README, "", "1.2.3")
    assert "docs/install.md" in page and "!" not in page.split("## Install")[0].replace("goes beyond it", "")
    assert "\n\n\n" not in page
