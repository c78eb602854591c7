import pytest
import torch

from qcompile.data.batches import join, split_off
from qcompile.data.sampling import CalibrationSet, select_samples
from qcompile.data.source_kinds import MemorySource
from qcompile.data.sources import open_data
from qcompile.diagnostics.codes import Code

ROWS = torch.arange(40.0).reshape(20, 2)


def selected(content, samples=8, batch=3, seed=1) -> CalibrationSet:
    chosen, problems = select_samples("data", MemorySource(content), samples, batch, seed)
    assert problems == []
    assert chosen is not None
    return chosen


def test_one_seed_gives_one_selection():
    first, second = selected(ROWS), selected(ROWS.clone())
    assert first.indices == second.indices
    assert first.sha256 == second.sha256
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.batches, second.batches, strict=True)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    )


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(3)
    first = selected(ROWS).indices
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(4)
    assert selected(ROWS).indices == first


def test_the_selection_is_the_head_of_the_seeded_shuffle():
    generator = torch.Generator().manual_seed(1)
    expected = torch.randperm(20, generator=generator)[:8]
    chosen = selected(ROWS)
    assert chosen.indices == tuple(expected.tolist())
    joined = join(chosen.batches)
    assert isinstance(joined, torch.Tensor)
    assert torch.equal(joined, ROWS[expected])
    assert chosen.indices == selected(ROWS, samples=20).indices[:8]


def test_another_seed_gives_another_selection():
    assert selected(ROWS, seed=1).indices != selected(ROWS, seed=2).indices


def test_the_hash_is_of_the_samples_not_of_the_batches():
    assert selected(ROWS, batch=3).sha256 == selected(ROWS, batch=8).sha256
    assert [len(part) for part in selected(ROWS, batch=3).batches] == [3, 3, 2]
    changed = ROWS.clone()
    changed[selected(ROWS).indices[0]] += 1
    assert selected(changed).sha256 != selected(ROWS).sha256


def test_a_change_outside_the_selection_does_not_matter():
    changed = ROWS.clone()
    unused = (set(range(20)) - set(selected(ROWS).indices)).pop()
    changed[unused] = torch.nan
    assert selected(changed).sha256 == selected(ROWS).sha256


def test_memory_and_iteration_select_the_same(project, write):
    write(
        "kinds.py",
        """
        import torch
        from torch.utils.data import TensorDataset
        X = torch.arange(40.0).reshape(20, 2)
        def memory(): return X
        def batches(): return list(X.split(7))
        """,
    )
    hashes = set()
    for name in ("memory", "batches"):
        source, _ = open_data(f"kinds:{name}", project)
        assert source is not None
        chosen, _ = select_samples(name, source, 8, 4, 1)
        assert chosen is not None
        hashes.add(chosen.sha256)
    assert len(hashes) == 1


def test_labels_stay_with_their_rows():
    chosen = selected((ROWS, torch.arange(20)))
    _, labels = split_off(join(chosen.batches), "label")
    assert labels is not None
    assert tuple(labels.tolist()) == chosen.indices


def test_too_few_samples_is_a_warning_and_all_are_used():
    chosen, (problem,) = select_samples("data", MemorySource(ROWS), 1024, 8, 1)
    assert problem.code is Code.TOO_FEW_SAMPLES
    assert problem.message == "1024 samples requested, `data` has 20"
    assert chosen is not None
    assert sorted(chosen.indices) == list(range(20))


def test_no_seed_is_a_warning():
    chosen, (problem,) = select_samples("data", MemorySource(ROWS), 8, 8, None)
    assert problem.code is Code.NO_SEED
    assert not problem.is_error
    assert chosen is not None


def test_no_samples_is_an_error():
    chosen, (problem,) = select_samples("data", MemorySource(ROWS[:0]), 8, 8, 1)
    assert chosen is None
    assert problem.code is Code.EMPTY_DATA


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("shape", [(20,), (20, 2), (20, 1, 2, 2)])
def test_a_bad_value_names_the_first_sample_by_its_index(value, shape):
    content = torch.zeros(shape)
    content[13] = value
    content[4].fill_(value)
    chosen, (problem,) = select_samples("data", MemorySource(content), 20, 8, 1)
    assert chosen is None
    assert problem.code is Code.NON_FINITE_DATA
    assert problem.message == "sample 4 of `data` has NaN or Inf values"
    assert "2 of the selected" in problem.notes[0]
