"""One setup cell for all chapters, from the address in _config.yml."""

import ipynb
import pytest
import setup_cell
import toy

REPOSITORY = "repository: {url: https://example.org/me/mine, branch: trunk}"


def test_address_comes_from_the_configuration(tmp_path):
    book = toy.book(tmp_path)
    book.config.write_text(REPOSITORY)
    source = setup_cell.setup_source(book)
    spec = "hagvig-lib[train] @ git+https://example.org/me/mine@trunk"
    assert f'"{spec}"' in source


@pytest.mark.parametrize(
    "before",
    [
        toy.notebook(toy.markdown("# 1 · Why?"), toy.code("N = 3")),
        toy.notebook(
            toy.markdown("# 1 · Why?"),
            toy.code("old", "setup"),
            toy.code("N = 3"),
        ),
    ],
    ids=["absent", "outdated"],
)
def test_cell_is_written_before_other_code_and_only_once(tmp_path, before):
    path = tmp_path / "chapter.ipynb"
    ipynb.write(path, before)
    setup_cell.write(path, "new\ncell")
    once = path.read_text()
    cells = ipynb.read(path)["cells"]
    assert [ipynb.source(c) for c in cells] == [
        "# 1 · Why?",
        "new\ncell",
        "N = 3",
    ]
    assert cells[1]["metadata"]["tags"] == setup_cell.TAGS
    setup_cell.write(path, "new\ncell")
    assert path.read_text() == once
