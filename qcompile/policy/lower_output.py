"""The ``output`` and ``target`` statements: what is written, and what is to run it."""

from dataclasses import replace

from qcompile.diagnostics.diagnostic import Label
from qcompile.policy.attributes import Attribute, Shape, listed, read
from qcompile.policy.expression import Checker
from qcompile.policy.recipe import Output, TargetName
from qcompile.policy.unavailable import not_available
from qcompile.syntax.nodes import OutputBlock, TargetBlock
from qcompile.targets.names import BUILTIN, SUFFIX, unknown_target

ARTIFACT = "fx"
REPORT = "json"
REPORTS = ("html", "markdown")
EXPORTS = ("pt2", "onnx", "compressed-tensors", "gguf")
LATER_TARGETS = ("generic-int", "x86-vnni")

OUTPUT = (
    Attribute("dir", Shape.TEXT),
    Attribute("format", Shape.TEXTS, choices=(ARTIFACT, *EXPORTS)),
    Attribute("report", Shape.TEXTS, choices=(REPORT, *REPORTS)),
    Attribute("target", Shape.TEXT, choices=BUILTIN, later=LATER_TARGETS),
)
TARGET = (Attribute("threads", Shape.INTEGER, low=1, carried_out=False),)


def lower_output(node: OutputBlock, checker: Checker) -> Output:
    settings = read("`output`", node.attrs, OUTPUT, checker, node.span)
    written = settings.attr("format")
    target, named = settings.text("target"), settings.attr("target")
    return Output(
        directory=settings.text("dir"),
        exports=tuple(dict.fromkeys(n for n in settings.texts("format") if n != ARTIFACT)),
        reports=tuple(dict.fromkeys(n for n in settings.texts("report") if n != REPORT)),
        format_span=written.value.span if written else node.span,
        target=TargetName(target, named.value.span) if target and named else None,
        span=node.span,
    )


def lower_target(node: TargetBlock, checker: Checker) -> TargetName:
    target = node.target
    if target.value in LATER_TARGETS:
        way_out = f"write {listed(BUILTIN)}, or leave it out"
        checker.report(not_available(f"the target `{target.value}`", target.span, way_out))
    elif target.value not in BUILTIN and not target.value.endswith(SUFFIX):
        checker.report(replace(unknown_target(target.value), primary=Label(target.span)))
    read("`target`", node.attrs, TARGET, checker, node.span)
    return TargetName(target.value, target.span)
