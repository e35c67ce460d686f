"""Checkers of chapter 11, What does a fused kernel save?"""

import math

from . import Wrong


def break_even(answer) -> None:
    """11.1: the chunk from which one kernel for both moves fewer bytes."""
    for K, V, e, c in ((32, 64, 2, 2), (32, 64, 2, 4), (16, 32, 4, 4)):
        chunk = float(answer(K, V, e, c))
        if not chunk > 0:
            raise Wrong(f"a chunk of {chunk:.4g} tokens: a length is positive")
        merged = e * (6 * K + 3 * V) + 2 * c * K * V / chunk
        apart = e * (6 * K + 5 * V)
        if not math.isclose(merged, apart, rel_tol=1e-6):
            raise Wrong(
                f"for K = {K}, V = {V}, e = {e} and c = {c}, chunks of"
                f" {chunk:.4g} tokens move {merged:.4g} bytes merged and"
                f" {apart:.4g} apart; a copy is written and read, with c"
                " bytes a number"
            )


def thrifty(answer) -> None:
    """11.2: bytes of the backward pass in one kernel, for a token."""
    for K, V, C, e, c in (
        (32, 64, 16, 2, 2),
        (16, 32, 64, 2, 4),
        (64, 64, 32, 4, 4),
    ):
        got = float(answer(K, V, C, e, c))
        sweep, gradients = e * (4 * K + 2 * V), e * (4 * K + V)
        copy = c * K * V / C
        right = 2 * sweep + gradients + 4 * copy
        wrong = (
            (right - sweep, "the second sweep reads its inputs again"),
            (right - gradients, "five gradients have to be written"),
            (right - 2 * copy, "each copy is written and read"),
            (right + 4 * copy, "two copies a chunk, not four"),
            (right + 4 * (e - c) * K * V / C, "a copy has c bytes a number"),
            (right + 4 * (C - 1) * copy, "a copy serves a whole chunk"),
        )
        where = f"for K = {K}, V = {V}, C = {C}, e = {e} and c = {c}"
        for value, hint in wrong:
            if math.isclose(got, value) and not math.isclose(got, right):
                raise Wrong(f"{where}: {hint}")
        if not math.isclose(got, right):
            raise Wrong(
                f"{where} you return {got:.6g}; inputs alone are {2 * sweep},"
                f" gradients {gradients} and copies {4 * copy:.6g}"
            )


def segments(answer) -> None:
    """11.3: into how many segments a scan is cut."""
    cases = (
        (1, 4096, 3, 32, 132),  # room is short
        (4, 4096, 3, 32, 132),  # programs are wanted, and not in whole parts
        (1, 196, 3, 32, 132),  # a short chunk counts; one segment fits
        (1, 49, 24, 32, 132),  # less than four chunks
        (256, 4096, 12, 32, 132),  # more than enough programs
        (1, 513, 12, 32, 20),  # 17 chunks: 4 segments fit, and 4 are wanted
    )
    for B, T, H, C, processors in cases:
        got = answer(B, T, H, C, processors)
        chunks, programs = -(-T // C), B * H
        where = (
            f"{programs} programs, {chunks} chunks, {processors} processors"
        )
        if got != int(got) or got < 1:
            raise Wrong(f"{where}: {got} segments; at least one, and whole")
        if got > 1 and chunks // got < 4:
            raise Wrong(f"{where}: {got} segments have under four chunks each")
        wanted, room = -(-2 * processors // programs), max(1, chunks // 4)
        if got < min(wanted, room):
            raise Wrong(
                f"{where}: {got} segments make {programs * got} programs, and"
                f" {room} would fit"
            )
        if got > max(wanted, 1):
            raise Wrong(f"{where}: fewer than {got} segments would do")


EXERCISES = {1: break_even, 2: thrifty, 3: segments}
