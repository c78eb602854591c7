"""What other programs make of the same float model: the neighbours of the kernel benchmark.

Each gives a call of the model and the seconds until its first result. None is a requirement of the
project; ``make bench-kernels`` installs them in an environment of their own.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

RECOMPILE_LIMIT = 64
"""Of one ``forward``: a process compiles each model for several batches and peers."""

Run = Callable[[], object]
Build = Callable[[nn.Module, Tensor, Tensor], Run]
"""Of the float model, an input, and samples to calibrate with."""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    run: Run | None
    build_seconds: float = 0.0
    because: str = ""
    """Why it gave nothing."""


def peers(target: str, net: nn.Module, x: Tensor, samples: Tensor) -> Iterator[Peer]:
    """Everything that is asked of the peers may fail: a failure is a result, not an error."""
    for name, build in (*ALWAYS, *OF_TARGET[target]):
        start = time.perf_counter()
        try:
            run = build(copy.deepcopy(net), x.clone(), samples)
            run()
        except Exception as error:  # whatever their programs raise
            yield Peer(name, None, because=f"{type(error).__name__}: {error}".splitlines()[0])
            continue
        yield Peer(name, run, time.perf_counter() - start)


def _inductor(net: nn.Module, x: Tensor, samples: Tensor) -> Run:
    del samples
    return _compiled(net, x)


def _inductor_int8(net: nn.Module, x: Tensor, samples: Tensor) -> Run:
    """The x86 path of PT2E: static 8 bits, operations between layers in 8 bits too."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    batch = torch.export.Dim("batch", min=1)
    shapes = ({0: batch},) if len(x) > 1 else None
    exported = torch.export.export(net, (x,), dynamic_shapes=shapes).module()
    prepared = prepare_pt2e(exported, quantizer)
    prepared(samples if len(x) > 1 else samples[:1])
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return _compiled(converted, x)


def _compiled(model: nn.Module, x: Tensor) -> Run:
    """Weights are packed at compile time (``freezing``), as Inductor's int8 kernels need it."""
    model = torch.compile(model, dynamic=False)
    with (
        torch._inductor.config.patch(freezing=True),
        torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT),
    ):
        model(x)
    return lambda: model(x)


def _onnxruntime_int8(net: nn.Module, x: Tensor, samples: Tensor) -> Run:
    """Static 8 bits by its own quantizer, scales for each output."""
    import onnxruntime
    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(samples.split(len(x) if len(x) <= len(samples) else len(samples)))

        def get_next(self) -> dict[str, object] | None:
            rows = next(self.rows, None)
            return None if rows is None else {"x": rows.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        free = {0: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            net, (samples,), whole, input_names=["x"], dynamic_shapes=(free,), dynamo=True
        )
        quantization.quant_pre_process(whole, whole)
        quantization.quantize_static(whole, small, Samples(), per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
    given = {"x": x.contiguous().numpy()}
    return lambda: session.run(None, given)


def _torchao(config: str, **settings: object) -> Build:
    """Linear layers by ``quantize_``, then Inductor, as its pages have it."""

    def build(net: nn.Module, x: Tensor, samples: Tensor) -> Run:
        del samples
        from torchao import quantization

        wide = config.startswith("Int4")  # whose kernel is for bfloat16 models
        model, given = (net.bfloat16(), x.bfloat16()) if wide else (net, x)
        quantization.quantize_(model, getattr(quantization, config)(**settings))
        return _compiled(model, given)

    return build


ALWAYS: tuple[tuple[str, Build], ...] = (("inductor", _inductor),)
OF_TARGET: dict[str, tuple[tuple[str, Build], ...]] = {
    "x86-int8": (
        ("inductor int8", _inductor_int8),
        ("onnxruntime int8", _onnxruntime_int8),
        ("torchao", _torchao("Int8DynamicActivationInt8WeightConfig")),
    ),
    "cpu-int4": (
        ("torchao", _torchao("Int4WeightOnlyConfig", group_size=64)),
        ("torchao int8", _torchao("Int8WeightOnlyConfig")),
    ),
    "cpu-int8-weight-only": (("torchao", _torchao("Int8WeightOnlyConfig")),),
}
