"""What Jupyter Book gets to see: today's prose with its code's outputs."""

import pytest
import toy
from stage import copy_mathjax, graft


def test_outputs_join_todays_prose_and_live_cells_leave():
    executed = toy.chapter(
        toy.markdown("Old."), toy.code("live()", "live"), toy.code("show()")
    )
    for number, cell in enumerate(executed["cells"][-3:]):
        cell["outputs"] = [f"output {number}"]
        cell["execution_count"] = number
    source = toy.chapter(
        toy.markdown("New."),
        toy.markdown("One more."),
        toy.code("live()", "live"),
        toy.code("show()"),
    )
    page = graft(source, executed)
    texts = ["".join(cell["source"]) for cell in page["cells"][-4:]]
    assert texts == ["New.", "One more.", "show()", toy.FOOTER]
    assert page["cells"][-2]["outputs"] == ["output 1"]
    assert page["cells"][-2]["execution_count"] == 1


def test_outputs_of_other_code_are_never_grafted():
    with pytest.raises(ValueError, match="zip"):
        graft(toy.chapter(), toy.chapter(toy.code("x = 1")))


def test_mathjax_is_the_small_part_that_pages_load(tmp_path):
    copy_mathjax(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.relative_to(tmp_path).as_posix() for path in files}
    assert "tex-chtml.js" in names
    assert "input/tex/extensions/cancel.js" in names
    assert any(name.endswith(".woff") for name in names)
    assert 1e6 < sum(path.stat().st_size for path in files) < 3e6
