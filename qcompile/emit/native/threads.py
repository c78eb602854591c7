"""A function over blocks of outputs, by several threads: each takes its share of them."""

import ctypes
import os
from functools import cache

import torch

from qcompile.compat.llvm import Function
from qcompile.compat.openmp import Team, team
from qcompile.emit.native.assembly import Assembly, Signature

WORTH_A_THREAD = 1 << 18
"""Products: with less to do it is not worth while to wake a thread."""
HEAD = 2
"""Words of a task in front of its arguments."""


@cache
def process_of_team() -> int:
    """The one that first used threads. A fork of it has none, and OpenMP would wait for them."""
    return os.getpid()


def of_shares(signature: Signature) -> Signature:
    return Signature(f"{signature.name}_share", ("task",))


def share(signature: Signature) -> str:
    """One thread's blocks of those from ``first`` to ``last``, whatever the number of threads."""
    f = Assembly()
    f(of_shares(signature).definition(), "entry:")
    me, count = (
        f.value(f"zext i32 {f.value(f'call i32 {function}()')} to i64")
        for function in [f.load("ptr", f.at("i64", "%task", word)) for word in range(HEAD)]
    )
    names = (*signature.addresses, *signature.numbers)
    given = {
        name: f.load(kind, f.at("i64", "%task", HEAD + at))
        for at, (kind, name) in enumerate(zip(signature.kinds, names, strict=True))
    }
    first, last = given["first"], given["last"]
    size = f.value(f"sub i64 {last}, {first}")
    size = f.value(f"add i64 {size}, {f.value(f'sub i64 {count}, 1')}")
    size = f.value(f"udiv i64 {size}, {count}")
    start = f.value(f"add i64 {first}, {f.value(f'mul i64 {me}, {size}')}")
    stop = f.value(f"add i64 {start}, {size}")
    is_less = f.value(f"icmp ult i64 {stop}, {last}")
    stop = f.value(f"select i1 {is_less}, i64 {stop}, i64 {last}")
    f(
        f"%some = icmp ult i64 {start}, {stop}",
        "br i1 %some, label %mine, label %end",
        "mine:",
        signature.call(**{**given, "first": start, "last": stop}),
        "br label %end",
        "end:",
        "ret void",
    )
    return f.text()


def run(
    functions: dict[str, Function],
    signature: Signature,
    args: tuple[int, ...],
    products: int,
) -> None:
    """Call the function, of so many products, with as many threads as are worth it."""
    threads = min(torch.get_num_threads(), products // WORTH_A_THREAD)
    crew = team() if threads > 1 and os.getpid() == process_of_team() else None
    if crew is None:
        functions[signature.name](*args)
    else:
        _together(crew, threads, functions[of_shares(signature).name], args)


def _together(crew: Team, threads: int, function: Function, args: tuple[int, ...]) -> None:
    head = crew.number_of_thread, crew.number_of_threads
    task = (ctypes.c_int64 * (HEAD + len(args)))(*head, *args)
    crew.start(function, task, threads, 0)
