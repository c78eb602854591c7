"""The policy language against an independent reading of its rules."""

from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.policy.resolve import resolve
from tests.policy.compiled import recipe_of, small_cnn

SITES = small_cnn()
SCHEMES = {"a": (4, 6), "b": (8, None), "c": (2, 2), "d": (4, 6)}
"""Bits of ``weight`` and ``act`` of each scheme."""
SELECTORS = {
    "any": lambda site: True,
    "conv": lambda site: site.kind.value == "conv",
    "linear": lambda site: site.kind.value == "linear",
    "depthwise": lambda site: site.path.endswith("conv2"),
    '"layer.0.**"': lambda site: site.path.startswith("layer.0."),
    'inside("layer.1") or "fc"': lambda site: site.path.startswith("layer.1.") or site.path == "fc",
    '"nowhere"': lambda site: False,
}
TEXT = "".join(
    f"scheme {name} {{ weight int{w}; {f'act int{a}' if a else 'act float'} }}\n"
    for name, (w, a) in SCHEMES.items()
)

ACTION = st.one_of(
    st.tuples(st.just("use"), st.sampled_from(sorted(SCHEMES))),
    st.tuples(st.just("skip"), st.none()),
    st.tuples(st.just("set"), st.tuples(st.sampled_from(["weight", "act"]), st.integers(2, 8))),
)
SCOPE = st.one_of(st.none(), st.sampled_from(sorted(SELECTORS)))
RULE = st.tuples(ACTION, st.sampled_from(sorted(SELECTORS)), st.booleans(), st.booleans(), SCOPE)


def line(rule):
    (word, what), selector, final, optional, scope = rule
    prefix = ("final " if final else "") + ("optional " if optional else "")
    if word == "use":
        body = f"use {what} for ({selector})"
    elif word == "skip":
        body = f"skip ({selector})"
    else:
        body = f"set {what[0]}.bits = {what[1]} for ({selector})"
    return f"within {scope} {{ {prefix}{body} }}" if scope else prefix + body


def reference(rules, site):
    """``(scheme, bits of weight, bits of act)``; ``None`` stands for float."""
    state = (None, None, None)
    whole, fields = False, set()
    tensors = (site.weight is not None, bool(site.operands))
    for (word, what), selector, final, optional, scope in rules:
        chosen = [
            one
            for one in SITES
            if SELECTORS[selector](one) and (not scope or SELECTORS[scope](one))
        ]
        unmatched = '"nowhere"' in (selector, scope)
        if (site not in chosen) or (unmatched and not optional):
            continue
        if word == "use":
            new = (
                what,
                *(b if has else None for b, has in zip(SCHEMES[what], tensors, strict=True)),
            )
        elif word == "skip":
            new = (None, None, None)
        else:
            at = 1 if what[0] == "weight" else 2
            if state[at] is None:
                continue
            new = (*state[:at], what[1], *state[at + 1 :])
        if (whole and new != state) or any(new[at] != state[at] for at in fields):
            continue
        if whole and word == "use" and what != state[0]:
            continue
        state = new
        if final and word == "set":
            fields.add(at)
        elif final:
            whole = True
    return state


def bits(slot):
    return getattr(slot, "bits", None)


@settings(deadline=None, max_examples=75)
@given(st.lists(RULE, max_size=8))
def test_binding_agrees_with_the_reference(rules):
    recipe = recipe_of(TEXT + "policy main {\n" + "\n".join(map(line, rules)) + "\n}")
    resolution, _ = resolve(recipe, SITES)
    for one in resolution.decisions:
        found = (one.scheme, bits(one.slots["weight"]), bits(one.slots["act"]))
        assert found == reference(rules, one.site), one.site.path


@settings(deadline=None, max_examples=75)
@given(st.lists(RULE, max_size=8))
def test_trace_and_decision_agree(rules):
    recipe = recipe_of(TEXT + "policy main {\n" + "\n".join(map(line, rules)) + "\n}")
    resolution, _ = resolve(recipe, SITES)
    for one in resolution.decisions:
        winners = [step.rule for step in one.trace if step.won]
        assert [rule for rule in (one.rule,) if rule is not None] == winners[:1]
        assert {id(rule) for rule in one.patches.values()} == {id(r) for r in winners[1:]}


@settings(deadline=None, max_examples=75)
@given(st.lists(RULE, max_size=5))
def test_rules_that_match_no_site_change_nothing(rules):
    def decided(extra):
        text = TEXT + "policy main {\n" + "\n".join([*map(line, rules), *extra]) + "\n}"
        resolution, _ = resolve(recipe_of(text), SITES)
        return [(one.scheme, one.slots) for one in resolution.decisions]

    assert decided([]) == decided(['optional use c for "nowhere"', "optional skip embedding"])
