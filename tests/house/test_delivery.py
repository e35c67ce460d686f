"""What is committed, shipped and run elsewhere keeps its promises."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name
from repository import BASE, EXTRAS, PROJECT, ROOT, committed

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# In halves: this file is searched too.
REGISTRIES = [
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("deb.debian", ".org"),
    ("conda.anaconda", ".org"),
    ("download.pytorch", ".org"),
    ("/opt/", "pypi"),
]


def test_gates_and_gla_load_no_extra():
    """No more than torch and timm load themselves, in a fresh process."""
    program = (
        "import sys, torch, timm; before = set(sys.modules)\n"
        "import hagvig_lib.gla, hagvig_lib.gates\n"
        "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    loaded = run([sys.executable, "-c", program]).split()
    assert "hagvig_lib" in loaded
    extras = set().union(*EXTRAS.values()) - BASE.keys()
    distributions = packages_distributions()
    for module in loaded:
        owners = map(canonicalize_name, distributions.get(module, []))
        assert not extras.intersection(owners), module


def test_the_library_does_not_import_the_book():
    book = {path.stem for path in committed("book/*.py")} | {"book"}
    for path in committed("hagvig_lib/*.py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            roots = {name.partition(".")[0] for name in names}
            assert not roots & book, f"{path}:{node.lineno}"


def test_no_file_names_a_registry():
    forbidden = re.compile(
        "|".join(re.escape("".join(host)) for host in REGISTRIES)
    )
    for path in committed():
        content = (ROOT / path).read_bytes().decode(errors="ignore")
        assert not forbidden.search(content), path


def test_the_repository_has_one_address():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    pattern = re.compile(r"https://github\.com/[\w.-]+/hagvig\b")
    for path in committed():
        content = (ROOT / path).read_bytes().decode(errors="ignore")
        for address in pattern.findall(content):
            assert address == config["repository"]["url"], path


def test_notebooks_are_committed_without_outputs():
    notebooks = committed("*.ipynb")
    assert notebooks
    for path in notebooks:
        notebook = json.loads((ROOT / path).read_text())
        assert "widgets" not in notebook["metadata"], path
        for cell in notebook["cells"]:
            assert not cell.get("outputs"), path
            assert cell.get("execution_count") is None, path


def test_the_wheel_has_the_library_its_data_and_licences(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    run(command)
    (wheel,) = tmp_path.glob("*.whl")
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    library = {name for name in names if name.parts[0] == "hagvig_lib"}
    assert library == set(committed("hagvig_lib/*"))
    assert Path("hagvig_lib/data/fashion_mnist.xz") in library
    metadata = names - library
    assert {name.parts[0] for name in metadata} == {
        f"hagvig_lib-{PROJECT['version']}.dist-info"
    }
    licences = {n.name for n in metadata if "licenses" in n.parts}
    assert licences == {"LICENSE", "LICENSE-fashion-mnist"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_pinned_and_have_least_rights(path):
    text = path.read_text()
    for used in re.findall(r"uses: *(.*)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 90
        rights = {"pages": "write", "id-token": "write"}
        expected = rights if name == "deploy" else None
        assert job.get("permissions") == expected


def test_the_conda_workflow_executes_a_chapter_that_exists():
    text = (ROOT / ".github/workflows/conda.yml").read_text()
    (chapter,) = re.findall(r"book/\S+\.ipynb", text)
    assert (ROOT / chapter).exists()


def run(command):
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
