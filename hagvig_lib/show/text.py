"""Sentences whose numbers come from the cell that prints them."""

from IPython.display import Markdown, display


def text(markdown: str) -> None:
    """Display Markdown below the cell, so that no number is typed by hand.

    Args:
        markdown: usually an f-string, `show.text(f"... **{ratio:.2f}** ...")`.
    """
    display(Markdown(markdown))
