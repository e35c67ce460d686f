"""The contract of chapters: every breach is named, nothing else is."""

import check_sources
import ipynb
import pytest
import toy

LONG = "x = " + "1 + " * 20 + "1"


def problems(tmp_path, chapter):
    return check_sources.check(toy.book(tmp_path, one=chapter))


def without(tag):
    chapter = toy.chapter()
    cells = [c for c in chapter["cells"] if tag not in ipynb.tags(c)]
    return toy.notebook(*cells)


def with_output():
    cell = toy.code("x", "exercise")
    return toy.chapter(cell | {"execution_count": 3})


def test_a_good_chapter_passes(tmp_path):
    prose = (
        "Plain `{ref}` in code, {braces}, $\\frac{a}{b}$.\n\n```python\nx\n```"
    )
    chapter = toy.chapter(toy.markdown(prose), toy.code("x = 1"))
    assert problems(tmp_path, chapter) == []


@pytest.mark.parametrize(
    ("chapter", "message"),
    [
        (without("setup"), "isn't the setup cell"),
        (without("parameters"), "0 cells are tagged parameters"),
        (toy.chapter(toy.code("", "parameters")), "2 cells are tagged param"),
        (without("footer"), "the last cell isn't tagged footer"),
        (with_output(), "cell 'x': has outputs"),
        (toy.chapter(toy.code("x\n" * 41)), "41 lines; at most 40"),
        (toy.chapter(toy.code(LONG)), f"{len(LONG)} columns in"),
        (
            toy.chapter(*[toy.code("y\n" * 13) for _ in range(4)]),
            "the median may be 12",
        ),
    ],
)
def test_breach_of_the_contract_is_refused(tmp_path, chapter, message):
    [problem] = problems(tmp_path, chapter)
    assert problem.startswith("one.ipynb: ")
    assert message in problem


@pytest.mark.parametrize(
    "directive",
    [
        "```{note}\nText\n```",
        ":::{admonition} Title\nText\n:::",
        "See {ref}`a-section`.",
        "Cited {cite:p}`roffo2024`.",
        "(a-target)=\n## Heading",
        "````{prf:theorem}\n````",
    ],
)
def test_myst_that_colab_shows_raw_is_refused(tmp_path, directive):
    found = problems(tmp_path, toy.chapter(toy.markdown(directive)))
    assert found
    assert all("which Colab shows raw" in problem for problem in found)


def test_page_outside_the_table_of_contents_is_refused(tmp_path):
    book = toy.book(tmp_path)
    (book.source / "stray.md").write_text("# Stray\n")
    assert check_sources.check(book) == ["stray.md: not in book/_toc.yml"]


@pytest.mark.parametrize(
    ("metadata", "refused"),
    [
        ({}, True),
        ({"mystnb": {"image": {"alt": " "}}}, True),
        ({"mystnb": {"image": {"alt": "A rising line."}}}, False),
    ],
)
def test_figure_needs_alt_text(tmp_path, metadata, refused):
    cell = toy.code("plot()", **metadata)
    picture = {"image/png": "iVBO", "text/plain": "<Figure>"}
    cell["outputs"] = [{"output_type": "display_data", "data": picture}]
    book = toy.book(tmp_path, one=toy.chapter(cell))
    book.staged.parent.mkdir()
    book.staged.symlink_to(book.source)
    found = check_sources.check_outputs(book)
    assert bool(found) == refused
    assert all("cell 'plot()': figure without alt" in text for text in found)
