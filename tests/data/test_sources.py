import pytest
import torch
from safetensors.torch import save_file

from qcompile.data.batches import Batch, content_sha256, named_tensors
from qcompile.data.source_kinds import DataSource
from qcompile.data.sources import open_data
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError

SOURCES = """
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

X = torch.arange(20.0).reshape(10, 2)
Y = torch.arange(10)

def tensor(): return X
def pair(): return X, Y
def named(): return {"x": X, "y": Y}
def dataset(): return TensorDataset(X, Y)
def loader(): return DataLoader(TensorDataset(X, Y), batch_size=3)
def shuffled_loader(): return DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True)
def batch_list(): return [(X[:4], Y[:4]), (X[4:], Y[4:])]

class Again:
    def __iter__(self):
        for at in range(0, 10, 4):
            yield {"x": X[at:at + 4], "y": Y[at:at + 4]}
def again(): return Again()

class Samples(Dataset):
    def __len__(self): return 10
    def __getitem__(self, index):
        if index >= 10: raise IndexError(index)
        return {"x": X[index], "y": int(Y[index])}
def samples(): return Samples()

class Stream(IterableDataset):
    def __iter__(self): return iter(batch_list())
def stream(): return Stream()

def generator(): return (X for _ in range(3))
def nothing(): return None
def number(): return 3
def text(): return "abc"
def mixed(): return X, 3
def uneven(): return X, Y[:4]
def scalar(): return torch.tensor(1.0)
def empty(): return X[:0]
def no_batches(): return []
def empty_dataset(): return TensorDataset(X[:0])
def raises(): raise ValueError("no data today")
def strings(): return [["a", "b"]]
def ragged(): return [torch.zeros(2, 3), torch.zeros(2, 4)]

class Fails(Samples):
    def __getitem__(self, index): raise OSError("disk gone")
def fails(): return Fails()

class Uncollatable(Samples):
    def __getitem__(self, index): return {"x": "text"}
def uncollatable(): return Uncollatable()

class FailsLater:
    def __iter__(self):
        yield X
        raise RuntimeError("second batch")
def fails_later(): return FailsLater()

class Random(Samples):
    def __getitem__(self, index): return torch.rand(2)
def random(): return Random()
"""

GOOD = ["tensor", "pair", "named", "dataset", "loader", "shuffled_loader", "batch_list", "again",
        "samples", "stream"]  # fmt: skip


@pytest.fixture
def root(project, write):
    write("source.py", SOURCES)
    return project


def opened(root, name: str) -> DataSource:
    source, problems = open_data(f"source:{name}", root)
    assert problems == []
    assert source is not None
    return source


def first(batch: Batch) -> torch.Tensor:
    return named_tensors(batch)[0][1]


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_has_length_order_and_random_access(root, name):
    source = opened(root, name)
    assert len(source) == 10
    expected = torch.arange(20.0).reshape(10, 2)
    assert torch.equal(first(source.read([7, 0, 3])), expected[[7, 0, 3]])
    assert torch.equal(torch.cat([first(batch) for batch in source.batches(10)]), expected)


@pytest.mark.parametrize("size", [1, 3, 4, 10, 99])
@pytest.mark.parametrize("name", GOOD)
def test_batches_have_the_asked_size_and_can_be_read_twice(root, name, size):
    source = opened(root, name)
    sizes = [len(first(batch)) for batch in source.batches(size)]
    assert sizes == [min(size, 10 - at) for at in range(0, 10, size)]
    passes = [[content_sha256(batch) for batch in source.batches(size)] for _ in range(2)]
    assert passes[0] == passes[1]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("generator", Code.DATA_REFERENCE, "iterated only once"),
        ("nothing", Code.DATA_REFERENCE, "returned `NoneType`"),
        ("number", Code.DATA_REFERENCE, "returned `int`"),
        ("text", Code.DATA_REFERENCE, "returned `str`"),
        ("mixed", Code.DATA_REFERENCE, "`tuple` of `Tensor`, not tensors only"),
        ("uneven", Code.DATA_REFERENCE, "different first dimensions"),
        ("scalar", Code.DATA_REFERENCE, "without dimensions"),
        ("empty", Code.EMPTY_DATA, "has no samples"),
        ("no_batches", Code.EMPTY_DATA, "has no samples"),
        ("empty_dataset", Code.EMPTY_DATA, "has no samples"),
        ("raises", Code.DATA_REFERENCE, "raised an exception"),
        ("strings", Code.DATA_REFERENCE, "batches of type `list` of `str`"),
        ("fails", Code.DATA_REFERENCE, "raised an exception"),
        ("uncollatable", Code.DATA_REFERENCE, "`dict` of `list`"),
        ("fails_later", Code.DATA_REFERENCE, "raised an exception"),
        ("absent", Code.DATA_REFERENCE, "has no `absent`"),
    ],
)
def test_every_bad_source_has_its_code(root, name, code, words):
    source, (problem,) = open_data(f"source:{name}", root)
    assert source is None
    assert problem.code is code
    assert words in problem.message


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("zoo:fashion_mnist", Code.DATA_REFERENCE),
        ("text:a.txt", Code.DATA_REFERENCE),
        ("images:absent", Code.DATA_REFERENCE),
        ("hf:model", Code.DATA_REFERENCE),
        ("a:b()", Code.DATA_REFERENCE),
        ("no_module:x", Code.DATA_REFERENCE),
        ("os:listdir", Code.DATA_REFERENCE),
        ("safetensors:absent.safetensors", Code.WEIGHT_FILE),
    ],
)
def test_every_bad_reference_has_its_code(root, reference, code):
    source, (problem,) = open_data(reference, root)
    assert source is None
    assert problem.code is code


def test_a_source_that_changes_by_itself_is_a_warning(root):
    source, (problem,) = open_data("source:random", root)
    assert source is not None
    assert problem.code is Code.NO_SEED
    assert not problem.is_error


def test_batches_that_cannot_be_joined_name_both_shapes(root):
    source = opened(root, "ragged")
    with pytest.raises(CompileError) as caught:
        list(source.batches(3))
    assert caught.value.diagnostics[0].code is Code.DATA_REFERENCE
    assert "[3] and [4]" in caught.value.diagnostics[0].message


def test_the_zoo_names_its_labels(root):
    source, problems = open_data("zoo:fashion_mnist/test", root)
    assert problems == []
    assert source is not None
    assert (len(source), source.labels) == (2000, "label")
    source, _ = open_data("zoo:fashion_mnist/calib", root)
    assert source is not None
    assert (len(source), source.labels) == (1024, None)


def test_a_safetensors_file_is_data(root):
    x, y = torch.rand(4, 3), torch.tensor([3, 2, 1, 0])
    save_file({"x": x, "y": y}, root / "d.safetensors")
    source, problems = open_data("safetensors:d.safetensors", root)
    assert problems == []
    assert source is not None
    taken = source.read([1])
    assert isinstance(taken, dict)
    assert torch.equal(taken["x"], x[1:2])
    assert taken["y"].item() == 2
    save_file({"x": x}, root / "d.safetensors")
    source, _ = open_data("safetensors:d.safetensors", root)
    assert source is not None
    assert isinstance(source.read([0]), torch.Tensor)


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"x": torch.zeros(4), "y": torch.zeros(3)}, Code.DATA_REFERENCE),
        ({"x": torch.zeros(())}, Code.DATA_REFERENCE),
        ({"x": torch.zeros(0, 3)}, Code.EMPTY_DATA),
        ({}, Code.EMPTY_DATA),
    ],
)
def test_a_safetensors_file_needs_rows(root, tensors, code):
    save_file(tensors, root / "d.safetensors")
    source, (problem,) = open_data("safetensors:d.safetensors", root)
    assert source is None
    assert problem.code is code
