"""Read and write notebooks; nothing else in them is anyone's business."""

import json
from pathlib import Path

from paths import BuildError


def read(path: Path) -> dict:
    """A notebook's content.

    Raises:
        BuildError: the file is no notebook, after a bad merge for example.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise BuildError(f"{path} is no valid notebook: {error}") from error


def write(path: Path, notebook: dict) -> None:
    """Save it as Jupyter and nbstripout do."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n")


def code_cells(notebook: dict) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])
