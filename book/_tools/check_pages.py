"""Built pages: every internal link arrives, every picture has alt text."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


def html_pages(html: Path) -> list[Path]:
    """The pages of a site, without the templates among its static files."""
    return [
        path
        for path in sorted(html.rglob("*.html"))
        if "_static" not in path.relative_to(html).parts
    ]


def check(html: Path) -> list[str]:
    """Broken links, missing anchors and silent pictures, page by page."""
    pages = {path: _Page() for path in html_pages(html)}
    for path, page in pages.items():
        page.feed(path.read_text())
    problems = []
    for path, page in pages.items():
        name = path.relative_to(html).as_posix()
        for link in page.links:
            if reason := _broken(path, link, pages):
                problems.append(f"{name}: link {link!r}: {reason}")
        for source, alt in page.images:
            # Sphinx uses a picture's path where no alt text was given.
            if not alt.strip() or alt == source:
                problems.append(
                    f"{name}: no alt text on image {source[:60]!r}"
                )
    return problems


class _Page(HTMLParser):
    """Collects what a page links to, shows and can be linked at."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[tuple[str, str]] = []
        self.anchors = {"", "top"}

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = {key: value or "" for key, value in attrs}
        self.anchors.update(values[k] for k in ("id", "name") if k in values)
        self.links += [values[k] for k in ("href", "src") if k in values]
        if tag == "img":
            self.images.append((values.get("src", ""), values.get("alt", "")))


def _broken(path: Path, link: str, pages: dict[Path, _Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""  # leads out of the book; nothing here follows it
    target = path
    if parts.path:
        target = (path.parent / unquote(parts.path)).resolve()
    if not target.exists():
        return "no such file"
    if (
        target in pages
        and unquote(parts.fragment) not in pages[target].anchors
    ):
        return "no such anchor on that page"
    return ""
