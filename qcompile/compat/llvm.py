"""Machine code from LLVM assembly, by ``llvmlite`` where it is installed (the extra ``jit``)."""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

Function = Callable[..., None]
"""A C function. Its arguments are addresses and 64-bit numbers; it returns nothing, and the
interpreter's lock is free while it runs."""
LEAST = (0, 45)
"""The first ``llvmlite`` whose LLVM reads this assembly as it is."""


@cache
def has_llvm() -> bool:
    try:
        found = version("llvmlite")
    except PackageNotFoundError:
        return False
    return tuple(map(int, found.split(".")[:2])) >= LEAST


@cache
def _binding() -> ModuleType:
    binding = import_module("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def compile_functions(
    text: str, arity: Mapping[str, tuple[int, int]], features: str
) -> dict[str, Function]:
    """For the processor at hand, which must have ``features``; the code stays for good.

    ``arity``: of each function how many addresses, and how many numbers it takes then.
    """
    binding = _binding()
    module = binding.parse_assembly(text)
    module.verify()
    target = binding.Target.from_default_triple()
    engine = binding.create_mcjit_compiler(
        module, target.create_target_machine(features=features, opt=3)
    )
    engine.finalize_object()
    _KEPT.append(engine)
    return {
        name: ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * addresses, *[ctypes.c_int64] * numbers)(
            engine.get_function_address(name)
        )
        for name, (addresses, numbers) in arity.items()
    }


_KEPT: list[object] = []
"""Their memory holds the code, and somebody may still have the address of a function."""
