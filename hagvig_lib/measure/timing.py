"""Wall-clock times of functions that share a drifting machine."""

from collections.abc import Callable, Mapping
from time import perf_counter

import pandas as pd


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int
) -> pd.DataFrame:
    """Time functions in turn, so that a slow spell slows all of them.

    Each function is called once unrecorded, then once per round. The order
    alternates between rounds: nobody always runs in another's warm cache.

    Args:
        functions: name -> function without arguments; it does its work
            before it returns (a CUDA function synchronises itself).
        rounds: recorded calls of each function, at least 1.

    Returns:
        One row per name: `median`, `p20`, `p80` in seconds, and `n`, the
        number of recorded calls.

    Raises:
        ValueError: no function, or fewer than one round.
    """
    if not functions:
        raise ValueError("functions is empty: give at least one to time")
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: at least 1 call is timed")
    for function in functions.values():
        function()
    order = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            begin = perf_counter()
            functions[name]()
            seconds[name].append(perf_counter() - begin)
        order.reverse()
    samples = pd.DataFrame(seconds)
    return pd.DataFrame(
        {
            "median": samples.median(),
            "p20": samples.quantile(0.2),
            "p80": samples.quantile(0.8),
            "n": samples.count(),
        }
    ).rename_axis("name")
