"""The contract of chapters: every breach is named, nothing else is."""

import check_sources
import ipynb
import pytest
import toy

ALT = {"image": {"alt": "A rising line."}}
PICTURE = {"image/png": "iVBO", "text/plain": "<Figure>"}
SLIDER = {"text/html": ['<figure class="figplayer">'], "text/plain": "<HTML>"}
LONG = "x = " + "1 + " * 20 + "1"


def problems(tmp_path, chapter):
    return check_sources.check(toy.book(tmp_path, one=chapter))


def output_problems(tmp_path, *cells):
    book = toy.book(tmp_path, one=toy.chapter(*cells))
    book.staged.parent.mkdir()
    book.staged.symlink_to(book.source)
    return check_sources.check_outputs(book)


def with_outputs(cell, *shown):
    kind = "display_data"
    cell["outputs"] = [{"output_type": kind, "data": data} for data in shown]
    return cell


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
    cell = with_outputs(toy.code("plot()", **metadata), PICTURE)
    found = output_problems(tmp_path, cell)
    assert bool(found) == refused
    assert all("cell 'plot()': figure without alt" in text for text in found)


@pytest.mark.parametrize("shown", [PICTURE, SLIDER])
@pytest.mark.parametrize(
    ("code", "about", "refused"),
    [
        ("plot()", {}, True),
        ("plot(title='SYNTHETIC')", {}, False),
        ("plot()", {"figure": {"caption": "SYNTHETIC. A frame."}}, False),
        ("plot()", {"image": {"alt": "SYNTHETIC frame."}}, False),
    ],
)
def test_figure_of_a_drawn_colon_says_so(
    tmp_path, shown, code, about, refused
):
    about = {"image": {"alt": "A frame."}} | about
    figure = with_outputs(toy.code(code, mystnb=about), shown)
    drawn = toy.code("from hagvig_lib.data.synthetic_scene import render")
    found = output_problems(tmp_path, drawn, figure)
    assert bool(found) == refused
    assert all("no SYNTHETIC in its title" in text for text in found)


def test_figure_of_another_chapter_need_not_say_synthetic(tmp_path):
    other = toy.code("from mine import synthetic_data")
    figure = with_outputs(toy.code("plot()", mystnb=ALT), PICTURE)
    assert output_problems(tmp_path, other, figure) == []


def test_figure_before_the_import_need_not_say_synthetic(tmp_path):
    figure = with_outputs(toy.code("plot()", mystnb=ALT), PICTURE)
    drawn = toy.code("from hagvig_lib.data.synthetic_scene import render")
    assert output_problems(tmp_path, figure, drawn) == []


@pytest.mark.parametrize("shown", [PICTURE, SLIDER])
def test_value_printed_beside_a_figure_is_refused(tmp_path, shown):
    figure = toy.code("axes.hist(x)", mystnb=ALT)
    value = {"text/plain": ["(array([1.]), <BarContainer>)"]}
    [problem] = output_problems(tmp_path, with_outputs(figure, value, shown))
    assert problem.startswith("one.ipynb: cell 'axes.hist(x)': text of the")


def test_table_beside_a_figure_and_a_value_alone_pass(tmp_path):
    frame = {"text/html": "<table></table>", "text/plain": "  a\n0 1"}
    figure = with_outputs(toy.code("f(x)", mystnb=ALT), PICTURE, frame)
    printed = {"output_type": "stream", "name": "stdout", "text": ["1"]}
    figure["outputs"].append(printed)
    alone = with_outputs(toy.code("x"), {"text/plain": "3"})
    assert output_problems(tmp_path, figure, alone) == []
