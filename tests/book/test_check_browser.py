"""What a reader would see go wrong is found in a real browser."""

import os

import check_browser
import pytest
import stage
from paths import BuildError

pytestmark = pytest.mark.browser

PAGE = """<!DOCTYPE html><html lang="en"><head><title>T</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<script>MathJax = {{options: {{processHtmlClass: "math"}}}}</script>
<script defer src="mathjax/tex-chtml.js"></script></head>
<body><main><h1>Title</h1>{body}</main></body></html>"""
PIXEL = (
    "data:image/gif;base64,"
    "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
)
PLAYER = (
    f'<figure class="figplayer"><img src="{PIXEL}" alt="A dot.">'
    '<label for="r">time</label>'
    '<input id="r" type="range" min="0" max="3" value="0">'
    "<script>document.getElementById('r').addEventListener('input', e => "
    "{script})</script></figure>"
)
MOVES = (
    "e.target.parentElement.querySelector('img').src += '#' + e.target.value"
)


GOOD = (
    r'<p><span class="math">\(\frac{a}{b}\)</span></p>'
    r'<details><summary>More</summary><div class="math">\[x\]</div>'
    "</details>" + PLAYER.replace("{script}", MOVES)
)
BAD = {  # page -> body, message
    "brace": (r'<p class="math">\(\frac{a}{\)</p>', "equation not rendered"),
    "macro": (r'<p class="math">\(\nosuch\)</p>', "equation not rendered"),
    "raw": ('<p class="math">x^2</p>', "equation not rendered: x^2"),
    "foreign": (
        '<img alt="A dot." src="https://example.org/dot.png">',
        "external request https://example.org/dot.png",
    ),
    "script": ("<script>oh()</script>", "script error: oh is not defined"),
    "console": ("<script>console.error('oh')</script>", "console: oh"),
    "missing": ('<img alt="A dot." src="gone.png">', "not loaded"),
    "silent": (f'<img src="{PIXEL}">', "axe image-alt: <img"),
    "pale": ('<p style="color: #aaa">Pale</p>', "axe color-contrast: <p"),
    "stuck": (PLAYER.replace("{script}", "0"), "arrow key doesn't change"),
    "keys only": (
        PLAYER.replace("{script}", MOVES).replace("'input'", "'keydown'"),
        "the mouse doesn't change",
    ),
    "wide": (
        '<p style="width: 700px">wide</p>',
        "the page is 318 px wider than the screen",
    ),
}


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """Page -> its problems, from one check of all pages."""
    required = os.environ.get("HAGVIG_REQUIRE_BROWSER")
    if check_browser.find_browser() is None and not required:
        pytest.skip(check_browser.MISSING)
    folder = tmp_path_factory.mktemp("pages")
    stage.copy_mathjax(folder / "mathjax")
    bodies = {name: body for name, (body, _) in BAD.items()} | {"index": GOOD}
    for name, body in bodies.items():
        (folder / f"{name}.html").write_text(PAGE.format(body=body))
    found = check_browser.check(folder)
    return {name: [p for p in found if f"{name}.html" in p] for name in bodies}


def test_good_page_passes_in_every_view_and_over_http(problems):
    assert problems["index"] == []


@pytest.mark.parametrize("page", BAD)
def test_bad_page_is_refused(problems, page):
    _, message = BAD[page]
    assert any(message in problem for problem in problems[page])


def test_wide_page_is_refused_on_a_phone_only(problems):
    [problem] = problems["wide"]
    assert problem.startswith("wide.html (phone, file): ")


def test_missing_browser_is_said_or_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("HAGVIG_REQUIRE_BROWSER", raising=False)
    assert check_browser.check(tmp_path) == []
    assert "apt install chromium" in capsys.readouterr().out
    monkeypatch.setenv("HAGVIG_REQUIRE_BROWSER", "1")
    with pytest.raises(BuildError, match="apt install chromium"):
        check_browser.check(tmp_path)
