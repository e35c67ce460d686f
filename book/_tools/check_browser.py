"""Built pages in a real browser: what a reader sees, without a network."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread

from check_pages import html_pages
from paths import BuildError
from playwright.sync_api import (
    ConsoleMessage,
    Page,
    Request,
    Response,
    sync_playwright,
)

WORKERS = 2
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = (
    "no Chromium or Chrome found, browser checks skipped:"
    " install one (Debian: apt install chromium)"
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWS = {  # name -> width in CSS pixels, colour scheme
    "desktop": (1280, "light"),
    "dark": (1280, "dark"),
    "phone": (390, "light"),
}
# The theme's own: its search, mode and fold buttons show other words than
# their accessible names. No page of ours can change that.
THEME_RULES = ["label-content-name-mismatch"]

_RAW_MATH = """() => [...document.querySelectorAll('.math')]
  .filter(e => !e.querySelector('mjx-container')
    || e.querySelector('mjx-merror, mjx-mtext[style*="red"]'))
  .map(e => e.querySelector('mjx-merror')?.dataset.mjxError
    ?? e.innerText.slice(0, 80))"""
# axe's time grows with the square of the tokens of highlighted code; one
# token of each colour, on each background, tells as much.
_FEWER_TOKENS = """() => {
  const seen = new Set(), repeated = [];
  for (const code of document.querySelectorAll('pre')) {
    const background = getComputedStyle(code).backgroundColor;
    for (const token of code.querySelectorAll('span')) {
      const look = token.className + background;
      if (seen.has(look)) repeated.push(token);
      seen.add(look);
    }
  }
  repeated.forEach(token => token.replaceWith(token.textContent));
}"""
# Without preload: axe would fetch style sheets, which file:// forbids.
_AXE = """rules => axe.run(document, {preload: false,
  resultTypes: ['violations'],
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'],
  rules: Object.fromEntries(rules.map(r => [r, {enabled: false}]))})"""


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def check(html: Path) -> list[str]:
    """Problems of every page in every view, over file:// and one over http.

    Without a browser nothing is checked, and a line says so.

    Raises:
        BuildError: no browser, but HAGVIG_REQUIRE_BROWSER is set.
    """
    executable = find_browser()
    if executable is None:
        if os.environ.get("HAGVIG_REQUIRE_BROWSER"):
            raise BuildError(MISSING)
        print(MISSING)
        return []
    print("checking pages in the browser", flush=True)
    names = [p.relative_to(html).as_posix() for p in html_pages(html)]
    with _server(html) as address, ThreadPoolExecutor(WORKERS) as pool:
        visits = [
            pool.submit(_visit, executable, view, html.as_uri(), names)
            for view in VIEWS
        ]
        # Served, pages differ only in where they are: one is enough.
        first = (executable, "desktop", address, ["index.html"])
        visits.append(pool.submit(_visit, *first))
        return [problem for visit in visits for problem in visit.result()]


def _visit(
    executable: str, view: str, root: str, names: list[str]
) -> list[str]:
    """Look at pages below an address, in a browser of one's own."""
    width, scheme = VIEWS[view]
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=FLAGS
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.add_init_script(
            f"localStorage.setItem('mode', '{scheme}');"
            f"localStorage.setItem('theme', '{scheme}');"
        )
        log = _listen(page, root)
        for name in names:
            page.goto(f"{root}/{name}")
            for problem in (*_page_problems(page), *log):
                where = root.partition(":")[0]
                problems.append(f"{name} ({view}, {where}): {problem}")
            log.clear()
        browser.close()
    return problems


def _listen(page: Page, root: str) -> list[str]:
    """A list that grows by what goes wrong while pages load."""
    log: list[str] = []

    def on_request(request: Request) -> None:
        if not request.url.startswith((root, "data:", "blob:")):
            log.append(f"external request {request.url}")

    def on_response(response: Response) -> None:
        if not response.ok:
            log.append(f"not loaded ({response.status}): {response.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            log.append(f"console: {message.text}")

    page.on("request", on_request)
    page.on("response", on_response)
    page.on("console", on_console)
    page.on("requestfailed", lambda r: log.append(f"not loaded: {r.url}"))
    page.on("pageerror", lambda error: log.append(f"script error: {error}"))
    return log


def _page_problems(page: Page) -> Iterator[str]:
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = true)"
    )
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise")
        for source in page.evaluate(_RAW_MATH):
            yield f"equation not rendered: {source}"
    overflow = page.evaluate(
        "document.documentElement.scrollWidth - innerWidth"
    )
    if overflow > 0:
        yield f"the page is {overflow} px wider than the screen"
    yield from _slider_problems(page)
    page.evaluate(_FEWER_TOKENS)
    page.evaluate(
        files("axe_playwright_python").joinpath("axe.min.js").read_text()
    )
    for violation in page.evaluate(_AXE, THEME_RULES)["violations"]:
        for node in violation["nodes"]:
            yield f"axe {violation['id']}: {node['html'][:160]}"


def _slider_problems(page: Page) -> Iterator[str]:
    for figure in page.locator("figure.figplayer").all():
        image = figure.locator("img").first
        before = image.get_attribute("src")
        slider = figure.locator("input[type=range]").first
        label = slider.get_attribute("aria-label") or slider.get_attribute(
            "id"
        )
        last = slider.get_attribute("max") == slider.input_value()
        slider.press("ArrowLeft" if last else "ArrowRight")
        if image.get_attribute("src") == before:
            yield f"slider {label}: an arrow key doesn't change the picture"
        slider.press("End" if last else "Home")
        before = image.get_attribute("src")
        box = slider.bounding_box() or {"width": 0, "height": 0}
        target = 2 if last else box["width"] - 2  # the other end
        slider.click(position={"x": target, "y": box["height"] / 2})
        if image.get_attribute("src") == before:
            yield f"slider {label}: the mouse doesn't change the picture"


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Serve a folder on a free local port."""
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args) -> None:
        """Say nothing: the build's output is for its reader."""
