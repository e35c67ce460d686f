"""A study of four short runs, which counts how often each one was done."""

import os
import time
from math import nan
from pathlib import Path

RUNS = [{"arm": arm, "seed": seed} for arm in "ab" for seed in (0, 1)]
SOURCES = ("measure/timing.py", "measure/studies/*.py")


def run(arm, seed):
    folder = Path(os.environ["TOY_FOLDER"])
    count = folder / f"{arm}{seed}"
    count.write_text(f"{count.read_text() if count.exists() else ''}x")
    if (folder / "fail").exists() and arm == "a":
        time.sleep(5)  # longer than the others take to fail
    if (folder / "fail").exists() and arm == "b":
        raise ZeroDivisionError("toy")
    if (folder / "hang").exists() and arm == "b":
        (folder / f"hangs-{os.getpid()}").touch()
        time.sleep(600)
    return {"score": nan if (folder / "nan").exists() else seed + 0.5}
