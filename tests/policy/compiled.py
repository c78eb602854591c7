"""Recipes from text and sites from a few words, for tests of the plan floor."""

from qcompile.diagnostics.source import Source
from qcompile.policy.lower import lower
from qcompile.policy.site import Kind, Parameter, Site
from qcompile.syntax.parse import parse

W8 = "scheme w8 { weight int8 }\n"


def compiled(text, name="r.qrecipe"):
    """``(recipe or None, diagnostics)`` of a recipe; the version line is added.

    With what would be said of a legal recipe when it is planned.
    """
    source = Source(name, "qrecipe 1\n" + text)
    file, problems = parse(source)
    assert file is not None, marked(problems)
    recipe, diagnostics = lower(file, source)
    return recipe, [*diagnostics, *(recipe.unavailable if recipe else ())]


def recipe_of(text):
    recipe, diagnostics = compiled(text)
    assert recipe is not None, marked(diagnostics)
    return recipe


def marked(diagnostics):
    """``(code, marked text)`` of each diagnostic, in order of the text."""
    found = sorted(diagnostics, key=lambda item: item.primary.span.start)
    return [(item.code.number, item.primary.span.text) for item in found]


def site(index, path, kind=Kind.LINEAR, *, weight=True, operands=1, op="torch.nn.Linear", **facts):
    segments = path.split(".")
    scopes = tuple(".".join(segments[:end]) for end in range(1, len(segments)))
    parameter = Parameter(f"{path}.weight", (4, 8), "float32", f"{path}.weight")
    return Site(
        index=index,
        node=f"n{index}",
        path=path,
        call=0,
        kind=kind,
        op=op,
        scopes=scopes,
        weight=parameter if weight else None,
        bias=None,
        operands=tuple(f"x{number}" for number in range(operands)),
        producers=(index - 1,) if index else (),
        **facts,
    )


def small_cnn():
    """Two blocks of two convolutions and an addition, between a stem and a head."""
    rows = [("conv1", Kind.CONV, {"kernel": (3, 3), "groups": 1, "in_features": 3, "params": 100})]
    for block in ("layer.0", "layer.1"):
        rows += [
            (f"{block}.conv1", Kind.CONV, {"kernel": (1, 1), "groups": 1, "in_features": 8}),
            (f"{block}.conv2", Kind.CONV, {"kernel": (3, 3), "groups": 8, "in_features": 8}),
            (f"{block}.add", Kind.ADD, {}),
        ]
    rows.append(("fc", Kind.LINEAR, {"in_features": 16, "params": 2_000_000, "macs": 500}))
    ops = {Kind.CONV: "torch.nn.Conv2d", Kind.ADD: "operator.add", Kind.LINEAR: "torch.nn.Linear"}
    return [
        site(
            index,
            path,
            kind,
            weight=kind is not Kind.ADD,
            operands=2 if kind is Kind.ADD else 1,
            op=ops[kind],
            **facts,
        )
        for index, (path, kind, facts) in enumerate(rows)
    ]
