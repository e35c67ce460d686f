"""Results come from cells; prose that types one is refused."""

import check_numbers
import pytest
import toy
import yaml


def problems(tmp_path, text, allowed=()):
    book = toy.book(tmp_path, index=f"# A toy\n\n{text}\n")
    listing = book.source / check_numbers.ALLOWED
    listing.parent.mkdir()
    listing.write_text(yaml.safe_dump(list(allowed)))
    return check_numbers.check(book)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The loss fell to 0.31.", "0.31"),
        ("It gained 3 % of accuracy.", "3 %"),
        ("It gained **93.2%**.", "93.2%"),
        ("That is 4 per cent.", "4 per cent"),
        ("It is 3x faster.", "3x"),
        ("It is 3 × faster.", "3 ×"),
        ("It ran 20 times faster.", "20 times"),
        ("One step takes 45 ms.", "45 ms"),
        ("One step takes 45 s.", "45 s"),
        ("It needs 3 GB.", "3 GB"),
        ("Off by 1e-12.", "1e-12"),
        ("| a |\n|---|\n| 7.5 |", "7.5"),
        ("- item 7.5", "7.5"),
        ("<p>It is 7.5.</p>", "7.5"),
        ("> **Takeaway.** Gains of 2.5 are small.", "2.5"),
        ("> **The paper says.** 9.9\n\nWe saw 2.5.", "2.5"),
        ("## A gain of 2.5", "2.5"),
        ("[A link of 2.5](https://example.org/9.9)", "2.5"),
        ("*20 minutes; 2.5*", "20 minutes"),
        ("*After this chapter you can* do 2.5. *20 minutes.*", "2.5"),
    ],
)
def test_typed_result_is_refused(tmp_path, text, number):
    first, *_ = problems(tmp_path, text)
    assert first.startswith(f"index.md: {number!r} typed by hand in")


@pytest.mark.parametrize(
    "text",
    [
        "A `0.31` in code, $0.31$ in a formula.",
        "$$x = 0.31$$",
        "```python\nx = 0.31\n```",
        "> **The paper says.** It gains 93.2 %.",
        "> **The code differs (G1).** It clips at 8.5.\n>\n> And at 9.5.",
        "**Exercise 7.1** (10 minutes, ★★) Do.",
        "*After this chapter you can* do. *20 minutes; 45 s; 0.6 GB.*",
        "*After this chapter you can* do. *An hour; 3 GB; `x` and 2 s.*",
        "Images of 28 × 28 pixels, 10,000 of them, in 12 blocks.",
        "See arXiv 2312.06635, section 4.2, equation 3.1.",
        "[A link](https://example.org/v1.2/x)",
        "## 7 · A question",
        ">",
    ],
)
def test_names_shapes_and_quotations_pass(tmp_path, text):
    assert problems(tmp_path, text) == []


def test_listed_number_passes_only_in_its_passage(tmp_path):
    entry = {"page": "index.md", "text": "starts at 0.5", "reason": "exact"}
    text = "A gate starts at 0.5 here. It ends at 0.5 there."
    [problem] = problems(tmp_path, text, [entry])
    assert "ends at 0.5" in problem


def test_listed_number_that_is_gone_is_refused(tmp_path):
    entry = {"page": "index.md", "text": "0.7", "reason": "exact"}
    [problem] = problems(tmp_path, "Nothing.", [entry])
    assert "'0.7' doesn't stand on index.md" in problem
