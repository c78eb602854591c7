"""What streams, statistics of a layer and learning steps each add to the memory of a unit."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from qcompile.analysis.run_memory import UnitMemory, unit_memory
from qcompile.analysis.run_walk import RunWalk
from qcompile.methods.tuning import Tuning


@dataclass(frozen=True, slots=True)
class MemoryTerms:
    """Bytes; they add up to the peak of the unit."""

    streams: int
    """Values of both streams, and what rounding to nearest needs beside them."""
    statistics: int
    """Gram matrices of a layer, and what its solvers work on."""
    learning: int
    """Optimizer state, recorded values and cached inputs of what is learned as one."""


def memory_terms(walk: RunWalk) -> tuple[tuple[UnitMemory, MemoryTerms], ...]:
    """In the order of the walk: what a unit's peak would be without steps, and without solvers."""
    found = tuple(unit_memory(walk))
    solved = _peaks(walk, _without_steps, found)
    nearest = _peaks(walk, _nearest, found)
    return tuple(
        (unit, _terms(unit.peak, with_solvers, alone))
        for unit, with_solvers, alone in zip(found, solved, nearest, strict=True)
    )


def _terms(peak: int, solved: int, nearest: int) -> MemoryTerms:
    solved = min(solved, peak)
    nearest = min(nearest, solved)
    return MemoryTerms(nearest, solved - nearest, peak - solved)


def _peaks(
    walk: RunWalk, change: Callable[[Tuning], Tuning], found: tuple[UnitMemory, ...]
) -> list[int]:
    """Of the same run with other tunings."""
    tuning = change(walk.tuning)
    tunings = {key: change(one) for key, one in walk.tunings.items()}
    if (tuning, tunings) == (walk.tuning, walk.tunings):
        return [one.peak for one in found]
    return [one.peak for one in unit_memory(replace(walk, tuning=tuning, tunings=tunings))]


def _without_steps(tuning: Tuning) -> Tuning:
    """The solvers of single layers alone; a preset that starts from nearest rounding has none."""
    if not tuning.learns:
        return tuning
    solvers = tuple(name for name in tuning.solvers if name != "gradient")
    return _nearest(tuning) if solvers == ("rtn",) else replace(tuning, solvers=solvers)


def _nearest(tuning: Tuning) -> Tuning:
    return Tuning(preset=tuning.preset, solvers=("rtn",))
