"""Links arrive and pictures speak, or the page is named."""

import check_pages
import pytest


def problems(tmp_path, body):
    other = '<h1 id="here">Other</h1><a name="old"></a>'
    (tmp_path / "other.html").write_text(other)
    (tmp_path / "page.html").write_text(body)
    return check_pages.check(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<a href="gone.html">x</a>', "link 'gone.html': no such file"),
        ('<a href="other.html#gone">x</a>', "no such anchor on that page"),
        ('<a href="#gone">x</a>', "link '#gone': no such anchor"),
        ('<script src="gone.js"></script>', "link 'gone.js': no such file"),
        ('<img src="other.html">', "no alt text on image 'other.html'"),
        ('<img src="other.html" alt=" ">', "no alt text on image"),
        ('<img src="other.html" alt="other.html">', "no alt text on image"),
    ],
)
def test_broken_page_is_refused(tmp_path, body, message):
    [problem] = problems(tmp_path, body)
    assert problem.startswith("page.html: ")
    assert message in problem


def test_good_page_passes(tmp_path):
    body = (
        '<h1 id="top-1">Page</h1><a href="#top-1"></a><a href="#"></a>'
        '<a href="other.html?q=1#here"></a><a href="other.html#old"></a>'
        '<a href="https://example.org/#anything"></a>'
        '<img src="other.html" alt="A line."><img src="data:," alt="A dot.">'
    )
    assert problems(tmp_path, body) == []
