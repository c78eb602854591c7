"""The private torch names that this package leans on, so that a test can tell when one is gone."""

PRIVATE_NAMES: tuple[str, ...] = (
    "torch._C:_len_torch_dispatch_stack",
    "torch._C._functorch:is_functorch_wrapped_tensor",
    "torch._dispatch.python:enable_python_dispatcher",
    "torch._subclasses.fake_tensor:FakeTensor",
    "torch._subclasses.fake_tensor:FakeTensorMode",
    "torch._subclasses.fake_tensor:unset_fake_temporarily",
    "torch.cpu:_is_amx_tile_supported",
    "torch.cpu:_is_avx2_supported",
    "torch.cpu:_is_avx512_bf16_supported",
    "torch.cpu:_is_vnni_supported",
    "torch.fx.experimental.symbolic_shapes:DimDynamic",
    "torch.fx.experimental.symbolic_shapes:ShapeEnv",
    "torch.fx.experimental.symbolic_shapes:StatelessSymbolicContext",
    "torch.nn.functional:has_torch_function",
    "torch.nn.functional:has_torch_function_unary",
    "torch.nn.functional:has_torch_function_variadic",
    "torch.utils._sympy.interp:sympy_interp",
    "torch.utils._sympy.numbers:int_oo",
    "torch.utils._sympy.printers:PythonPrinter",
    "torch.utils._sympy.reference:PythonReferenceAnalysis",
    "torch.utils._sympy.value_ranges:ValueRanges",
    "torch.utils._sympy.value_ranges:bound_sympy",
)
"""``module:name`` of each; every import from a private module in ``compat`` is in this list."""
