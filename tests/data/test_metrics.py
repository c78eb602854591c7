import math

import pytest
import torch

from qcompile.data.metrics import METRICS, Metric, Outcome, Tally, find_metric, primary_output
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.failure import CompileError


def metric(name, root=None, trusted=frozenset()) -> Metric:
    found = find_metric(name, root, trusted) if root else next(m for m in METRICS if m.name == name)
    assert isinstance(found, Metric)
    return found


def measured(name, outputs, *, reference=None, labels=None):
    return metric(name).measure(Outcome(outputs, reference, labels, torch.zeros(1)))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_top_k_equals_sorting_by_hand():
    logits = noise(50, 10)
    labels = torch.arange(50) % 10
    order = [sorted(range(10), key=lambda c, row=row: -float(row[c])) for row in logits]
    for k in (1, 5):
        hits = sum(int(label) in best[:k] for label, best in zip(labels, order, strict=True))
        assert measured(f"top{k}", logits, labels=labels) == (hits, 50)


def test_top5_of_three_classes_is_everything():
    assert measured("top5", noise(4, 3), labels=torch.zeros(4, dtype=torch.int64)) == (4, 4)


def test_top1_counts_each_position_of_a_sequence():
    logits = torch.eye(3).expand(2, 3, 3)
    assert measured("top1", logits, labels=torch.tensor([[0, 1, 2], [0, 0, 0]])) == (4, 6)


def test_agreement_is_with_the_reference():
    ours, theirs = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert measured("agreement", ours, reference=theirs) == (2, 4)


def test_cosine_and_sqnr_equal_their_formulas_in_float64():
    theirs = noise(6, 2, 5)
    ours = theirs + 0.1 * noise(6, 2, 5, seed=1)
    cosine = sqnr = 0.0
    for a, b in zip(ours.double().flatten(1), theirs.double().flatten(1), strict=True):
        cosine += float(a @ b / (a.norm() * b.norm()))
        sqnr += 10 * math.log10(float(b @ b / ((a - b) @ (a - b))))
    assert measured("cosine", ours, reference=theirs) == (pytest.approx(cosine, rel=1e-12), 6)
    assert measured("sqnr", ours, reference=theirs) == (pytest.approx(sqnr, rel=1e-12), 6)


def test_equal_outputs_have_a_finite_sqnr():
    assert measured("sqnr", torch.ones(2, 3), reference=torch.ones(2, 3)) == (300.0, 2)
    assert measured("sqnr", torch.zeros(2, 3), reference=torch.zeros(2, 3)) == (300.0, 2)


def test_perplexity_of_uniform_logits_is_the_vocabulary():
    tally = Tally().plus(
        measured("perplexity", torch.zeros(2, 5, 7), labels=torch.ones(2, 5).long())
    )
    assert tally.count == 8
    assert tally.value(metric("perplexity")) == pytest.approx(7)


def test_perplexity_is_of_the_next_token_and_skips_ignored_labels():
    logits = noise(1, 4, 6)
    labels = torch.tensor([[5, 2, -100, 3]])
    log_p = logits.double().log_softmax(-1)
    expected = -float(log_p[0, 0, 2] + log_p[0, 2, 3])
    assert measured("perplexity", logits, labels=labels) == (pytest.approx(expected), 2)


def test_batches_add_up_to_the_whole():
    logits, labels = noise(10, 4), torch.arange(10) % 4
    whole = Tally().plus(measured("top1", logits, labels=labels))
    parts = Tally()
    for at in (0, 3, 9):
        stop = {0: 3, 3: 9, 9: 10}[at]
        parts = parts.plus(measured("top1", logits[at:stop], labels=labels[at:stop]))
    assert parts == whole
    assert math.isnan(Tally().value(metric("top1")))


def test_the_primary_output():
    a, b = torch.zeros(1), torch.ones(1)
    assert primary_output(a) is a
    assert primary_output({"loss": a, "logits": b}) is b
    assert primary_output({"hidden": a, "other": b}) is a
    assert primary_output((None, b, a)) is b
    for other in (None, 3, (), {"x": 1}):
        assert primary_output(other) is None


@pytest.mark.parametrize(
    ("name", "outputs", "reference", "labels"),
    [
        ("top1", torch.zeros(4, 3), None, None),
        ("top1", torch.zeros(4, 3), None, torch.zeros(5, dtype=torch.int64)),
        ("top1", torch.zeros(4, 3), None, torch.zeros(4)),
        ("top1", torch.tensor(1.0), None, torch.zeros(1, dtype=torch.int64)),
        ("agreement", torch.zeros(4, 3), None, None),
        ("agreement", torch.zeros(4, 3), torch.zeros(4, 2), None),
        ("cosine", "text", torch.zeros(4, 2), None),
        ("perplexity", torch.zeros(4, 3), None, torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_what_does_not_fit_has_its_code(name, outputs, reference, labels):
    with pytest.raises(CompileError) as caught:
        measured(name, outputs, reference=reference, labels=labels)
    assert [problem.code for problem in caught.value.diagnostics] == [Code.METRIC]


USER = """
def mean_logit(outputs, batch): return outputs.sum(), outputs.numel()
def wrong(outputs, batch): return "many"
def fails(outputs, batch): raise ValueError("bad day")
LIMIT = 3
"""


def test_a_metric_of_the_user_gets_outputs_and_batch(project, write):
    write("own.py", USER)
    found = metric("own:mean_logit", project)
    outcome = Outcome(torch.ones(2, 3), None, None, torch.zeros(2))
    assert Tally().plus(found.measure(outcome)).value(found) == 1.0


@pytest.mark.parametrize("name", ["wrong", "fails"])
def test_a_bad_metric_of_the_user_has_its_code(project, write, name):
    write("own.py", USER)
    found = metric(f"own:{name}", project)
    with pytest.raises(CompileError) as caught:
        found.measure(Outcome(torch.ones(2, 3), None, None, torch.zeros(2)))
    assert caught.value.diagnostics[0].code is Code.METRIC


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("top2", Code.UNKNOWN_NAME),
        ("own:absent", Code.METRIC),
        ("own:LIMIT", Code.METRIC),
        ("os:system", Code.METRIC),
        ("own:mean()", Code.METRIC),
        ("zoo:resnet20", Code.METRIC),
    ],
)
def test_an_unknown_metric_has_its_code(project, write, name, code):
    write("own.py", USER)
    problem = find_metric(name, project)
    assert isinstance(problem, Diagnostic)
    assert problem.code is code
