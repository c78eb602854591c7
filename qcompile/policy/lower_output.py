"""The ``output`` and ``target`` statements: what is written, and what is to run it."""

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, Label
from qcompile.diagnostics.suggest import did_you_mean
from qcompile.policy.attributes import Attribute, Shape, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import Output
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import OutputBlock, String, TargetBlock

TARGETS = ("simulate",)
LATER_TARGETS = ("generic-int", "x86-int8", "x86-vnni", "cpu-int4", "cuda-int8", "cuda-int4")

OUTPUT = (
    Attribute("dir", Shape.TEXT),
    Attribute(
        "format",
        Shape.TEXTS,
        choices=("fx",),
        later=("pt2", "onnx", "compressed-tensors", "gguf"),
    ),
    Attribute("report", Shape.TEXTS, choices=("json",), later=("html", "markdown")),
    Attribute("target", Shape.TEXT, choices=TARGETS, later=LATER_TARGETS),
)
TARGET = (Attribute("threads", Shape.INTEGER, low=1, carried_out=False),)


def lower_output(node: OutputBlock, checker: Checker) -> Output:
    settings = read("`output`", node.attrs, OUTPUT, checker, node.span)
    return Output(
        directory=settings.text("dir"),
        formats=settings.texts("format"),
        reports=settings.texts("report"),
        target=settings.text("target"),
        span=node.span,
    )


def lower_target(node: TargetBlock, checker: Checker) -> str:
    target = node.target
    if target.value in LATER_TARGETS:
        way_out = f"write {listed(TARGETS)}, or leave it out"
        checker.report(not_available(f"the target `{target.value}`", target.span, way_out))
    elif target.value not in TARGETS:
        checker.report(unknown_target(target))
    read("`target`", node.attrs, TARGET, checker, node.span)
    return target.value


def unknown_target(target: String) -> Diagnostic:
    """QR201."""
    known = (*TARGETS, *LATER_TARGETS)
    return Diagnostic(
        Code.UNKNOWN_NAME,
        f"unknown target `{target.value}`",
        Label(target.span),
        help=did_you_mean(target.value, known) or f"the targets are {listed(known)}",
    )
