"""Run the studies and write their records; go on where a kill stopped them.

python -m hagvig_lib.measure.experiments [NAME ...]
"""

import json
import multiprocessing
import os
import pkgutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from io import BufferedRandom
from pathlib import Path
from types import ModuleType

import torch
from tqdm import tqdm

from . import records, studies
from .source import source_hash

WORK = Path("_build/experiments")  # finished runs, one JSON line each
QUIET = 0.5  # load average above which no times are taken


def names() -> list[str]:
    """The studies of this package; its folders hold what studies share."""
    found = pkgutil.iter_modules(studies.__path__)
    return sorted(m.name for m in found if not m.ispkg)


def run_study(
    study: ModuleType, work: Path = WORK, folder: Path = records.FOLDER
) -> Path:
    """Do the runs that are not finished, then write the record.

    A run is finished if its whole line stands in `work`, measured with
    today's source on this machine.

    Args:
        study: a module as `hagvig_lib.measure.studies` describes it.
        work: folder of the finished runs.
        folder: where the record goes.

    Returns:
        The record's path.

    Raises:
        ValueError: two runs have the same configuration.
        RuntimeError: a run failed or gave a number that is not finite
            (names its configuration; finished runs are kept), or the
            machine is too busy for a study of times.
    """
    name, timing = study.__name__.split(".")[-1], hasattr(study, "TIMING")
    wanted = {_key(run): run for run in study.RUNS}
    if len(wanted) < len(study.RUNS):
        raise ValueError(f"{name}.RUNS has two runs of one configuration")
    source = source_hash(study.SOURCES)  # now: it may change meanwhile
    circumstances = [records.machine(), source]
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{name}.jsonl").open("ab+") as store:
        done = {
            _key(line["configuration"]): line
            for line in _whole_lines(store)
            if line["circumstances"] == circumstances
        }
        todo = [run for key, run in wanted.items() if key not in done]
        if todo and timing and (load := os.getloadavg()[0]) > QUIET:
            raise RuntimeError(
                f"{name} takes times and the load average is {load:.1f}: "
                f"wait until nothing else runs and it is below {QUIET}"
            )
        begun = len(wanted) - len(todo)
        finished = _runs(study.__name__, todo, workers=1 if timing else 2)
        for line in tqdm(finished, name, len(wanted), initial=begun):
            line["circumstances"] = circumstances
            store.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            store.flush()
            done[_key(line["configuration"])] = line
    lines = [done[key] for key in wanted]
    return records.write(
        name,
        [line["configuration"] | line["result"] for line in lines],
        study.SOURCES,
        folder,
        source_hash=source,
        load=round(max(line["load"] for line in lines), 2),
        cpu_seconds=round(sum(line["cpu_seconds"] for line in lines), 1),
    )


def _key(configuration: dict) -> str:
    return json.dumps(configuration, sort_keys=True)


def _whole_lines(store: BufferedRandom) -> list[dict]:
    """Lines of a store; what a kill left of one is cut off, and said so."""
    store.seek(0)
    *lines, rest = store.read().split(b"\n")
    if rest:
        print(f"{store.name}: last line half written; its run is repeated")
        store.truncate(store.tell() - len(rest))
    return [json.loads(line) for line in lines]


def _runs(module: str, todo: list[dict], workers: int) -> Iterator[dict]:
    """Yield the line of each run as it finishes."""
    # Not fork: a forked worker would inherit torch's threads half alive.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _start_worker)
    try:
        runs = {pool.submit(_run, module, run): run for run in todo}
        failed = None
        for future in as_completed(runs):
            if future.cancelled():
                continue
            if not (error := future.exception()):
                yield future.result()
                continue
            failed = failed or (runs[future], error)
            for other in runs:  # a run that has begun is still finished
                other.cancel()
        if failed:
            raise RuntimeError(f"{module}: {failed[0]}") from failed[1]
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    # A killed parent says nothing, and its workers would wait for ever.
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _run(module: str, configuration: dict) -> dict:
    load, began = os.getloadavg()[0], time.process_time()
    result = import_module(module).run(**configuration)
    json.dumps(result, allow_nan=False)  # here, where an error names the run
    return {
        "configuration": configuration,
        "result": result,
        "load": load,
        "cpu_seconds": time.process_time() - began,
    }


def main() -> None:
    """Run all studies, or those that are named."""
    chosen = sys.argv[1:] or names()
    if unknown := set(chosen) - set(names()):
        sys.exit(f"no study {sorted(unknown)}: there are {names()}")
    for name in chosen:
        print(run_study(import_module(f"{studies.__name__}.{name}")))


if __name__ == "__main__":
    main()
