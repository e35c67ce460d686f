"""Mend what Jupyter Book and its theme add to each page."""

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    # After sphinx-thebe has added its scripts to the page.
    app.connect("html-page-context", _tidy, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


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
