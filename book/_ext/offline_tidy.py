"""Mend what Jupyter Book and its theme add to each page."""

from sphinx.application import Sphinx
from sphinx.config import Config


def setup(app: Sphinx) -> dict:
    # After sphinx-jupyterbook-latex has switched figure numbers on.
    app.connect("config-inited", _no_figure_numbers, priority=900)
    # After sphinx-thebe has added its scripts to the page.
    app.connect("html-page-context", _tidy, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _no_figure_numbers(app: Sphinx, config: Config) -> None:
    # They would count through the book; no text names them, Colab has none.
    config["numfig"] = False


def _tidy(app, pagename, templatename, context, doctree) -> None:
    # Its script is added twice, asks a foreign host and logs an error.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes}".lower()
    ]
    # Deprecated by WAI-ARIA, and no child of the list that docutils writes.
    context["body"] = context.get("body", "").replace(
        'role="doc-biblioentry"', 'role="listitem"'
    )
