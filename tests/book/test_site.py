"""The real book: built as `make book` builds it, within its budget."""

import re
import time
from importlib import import_module

import build
import ipynb
import pytest
from paths import BOOK

pytestmark = pytest.mark.book
CHAPTERS = BOOK.chapters()
REFERENCE = re.findall(
    r"automodule:: (\S+)", (BOOK.source / "appendix/api.md").read_text()
)


@pytest.fixture(scope="session")
def costs():
    """Chapter -> seconds and peak memory, of a build that passed."""
    return build.build(BOOK)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_keeps_to_120_seconds_and_3_gigabytes(costs, chapter):
    assert costs[chapter].seconds <= 120
    assert costs[chapter].peak_gb <= 3


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_has_a_slider_that_needs_no_kernel(costs, chapter):
    page = BOOK.site / BOOK.name(chapter.with_suffix(".html"))
    assert '<figure class="figplayer"' in page.read_text()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_captions_carry_no_number_that_counts_through_the_book(costs, chapter):
    page = BOOK.site / BOOK.name(chapter.with_suffix(".html"))
    assert "caption-text" in page.read_text()
    assert "caption-number" not in page.read_text()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_warns_of_nothing(costs, chapter):
    # A reader can't tell a harmless warning from a broken chapter.
    staged = BOOK.staged / BOOK.name(chapter)
    for cell in ipynb.code_cells(ipynb.read(staged)):
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", output["text"]


@pytest.mark.parametrize("module", REFERENCE)
def test_library_reference_holds_every_public_name(costs, module):
    page = (BOOK.site / "appendix/api.html").read_text()
    members = vars(import_module(module))
    own = [
        name
        for name, member in members.items()
        if str(getattr(member, "__module__", "")).startswith(module)
        and not name.startswith("_")
    ]
    names = members.get("__all__", own)
    public = [
        name
        for name in names
        if callable(members[name])
        and members[name].__module__.startswith(module)
    ]
    missing = [name for name in public if f'id="{module}.{name}"' not in page]
    assert f'id="module-{module}"' in page
    assert not missing


def test_building_again_takes_no_time(costs):
    began = time.monotonic()
    build.build(BOOK)
    assert time.monotonic() - began < 20
