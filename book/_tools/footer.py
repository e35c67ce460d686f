"""Read what a chapter's run cost from its last cell, the run footer."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import ipynb


@dataclass(frozen=True)
class RunCost:
    """Seconds and peak gigabytes of one execution."""

    seconds: float
    peak_gb: float

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s {self.peak_gb:5.2f} GB"


def run_cost(executed: Path) -> RunCost:
    """Whole time by papermill's clock, peak memory by `show.footer()`."""
    content = ipynb.read(executed)
    outputs = json.dumps(content["cells"][-1].get("outputs", []))
    peak = re.search(r"data-peak-gb=\\+\"([0-9.]+)", outputs)
    return RunCost(
        seconds=content["metadata"]["papermill"]["duration"],
        peak_gb=float(peak[1]) if peak else float("nan"),
    )
