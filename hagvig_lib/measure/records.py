"""Records: measurements that were made once and are shown on pages.

A record is a JSON file of this package. It knows which source it was
measured with, and says so when that source has changed.
"""

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from .source import commit, processor, source_hash

FOLDER = Path(__file__).with_name("records")
COMMAND = "python -m hagvig_lib.measure.experiments"
SCHEMA = (
    "name command device driver python torch triton commit sources "
    "source_hash date load cpu_seconds rows"
)


class Record(NamedTuple):
    """A measurement with its circumstances.

    Attributes:
        name: of the study.
        rows: one per run: its configuration and its results; empty if the
            study was not run yet.
        meta: the other fields of the file, {} if there is none. `load` is
            the highest load average before a run, `cpu_seconds` the sum
            over all runs.
        stale: whether the measured source has changed since.
    """

    name: str
    rows: pd.DataFrame
    meta: dict
    stale: bool

    def note(self) -> str:
        """Where the numbers come from, as a line of Markdown."""
        if not self.meta:
            return f"**Not yet measured:** `{COMMAND} {self.name}` does it."
        stale = "**Stale:** what was measured has changed since. "
        return (stale if self.stale else "") + (
            "Record `{name}`: {runs} runs, {minutes:.0f} CPU minutes, "
            "finished on {date} on {device}, torch {torch}, load at most "
            "{load:.1f}, commit {commit}, by `{command}`."
        ).format(
            runs=len(self.rows),
            minutes=self.meta["cpu_seconds"] / 60,
            **self.meta,
        )


def load(name: str, folder: Path = FOLDER) -> Record:
    """A record; an empty one that says so if it was not measured yet.

    Raises:
        ValueError: the file is no record; names it and what is missing.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return Record(name, pd.DataFrame(), {}, stale=False)
    try:
        meta = json.loads(path.read_text())
        missing = set(SCHEMA.split()) - meta.keys()
    except json.JSONDecodeError as error:
        missing = {f"valid JSON: {error}"}
    if missing:
        remedy = f"measure again: {COMMAND} {name}"
        raise ValueError(f"{path} has no {sorted(missing)}; {remedy}")
    rows = pd.DataFrame(meta.pop("rows"))
    try:
        stale = source_hash(meta["sources"]) != meta["source_hash"]
    except ValueError:  # a source is gone or has another name
        stale = True
    return Record(name, rows, meta, stale)


def write(
    name: str,
    rows: list[dict],
    sources: Sequence[str],
    folder: Path = FOLDER,
    **measured: str | float,
) -> Path:
    """Save a record, in one step.

    Args:
        rows: one dict per run, all numbers finite.
        sources: globs inside the package, see `source_hash`.
        measured: `load` and `cpu_seconds`, see `Record`; `source_hash`, if
            the source may have changed since the runs began.

    Raises:
        ValueError: a number in the rows is not finite.
    """
    meta = {"name": name, "command": f"{COMMAND} {name}"} | machine()
    meta |= {"commit": commit(), "sources": list(sources)}
    meta |= {"source_hash": source_hash(sources)}
    meta |= {"date": datetime.now(UTC).date().isoformat()} | measured
    head = json.dumps(meta, indent=1)[:-2]
    # One row a line: a diff shows which runs have changed.
    lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.part"
    partial.write_text(f'{head},\n "rows": [\n  {lines}\n ]\n}}\n')
    return partial.replace(folder / f"{name}.json")


def machine() -> dict[str, str | None]:
    """What numbers depend on besides the source: device and versions."""
    driver = Path("/proc/driver/nvidia/version")
    gpu, triton = torch.cuda.is_available(), find_spec("triton")
    return {
        "device": torch.cuda.get_device_name() if gpu else processor(),
        "driver": driver.read_text().splitlines()[0] if gpu else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": version("triton") if triton else None,
    }
