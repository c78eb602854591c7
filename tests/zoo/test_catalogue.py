"""The files that ship with the project are what their notes say."""

from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file

from qcompile.zoo.catalogue import DATA, MODELS, ZooModel, zoo_data, zoo_model
from qcompile.zoo.fashion_mnist import calibration
from qcompile.zoo.fashion_mnist import test as labelled_test_images

KNOWN_TOP1 = {"resnet20": 93.50, "vit_small": 88.45}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.usefixtures("one_thread")
def test_float_accuracy_is_the_known_one(model: ZooModel):
    module = model.build()
    module.load_state_dict(load_file(model.weights))
    module.eval()
    images, labels = labelled_test_images()
    with torch.no_grad():
        hits = sum(
            int((module(images[at : at + 500]).argmax(1) == labels[at : at + 500]).sum())
            for at in range(0, len(images), 500)
        )
    assert 100 * hits / len(images) == pytest.approx(KNOWN_TOP1[model.name], abs=0.1)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_example_inputs_fit_the_model_and_never_change(model: ZooModel):
    (example,) = model.example_inputs()
    assert example.shape[0] > 1
    assert torch.equal(example, model.example_inputs()[0])
    assert model.build().eval()(example).shape == (2, 10)


def test_calibration_images_are_normalised_floats():
    images = calibration()
    assert images.shape == (1024, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min().item() == pytest.approx((0 - 0.2860) / 0.3530, abs=1e-6)
    assert images.max().item() == pytest.approx((1 - 0.2860) / 0.3530, abs=1e-6)


def test_test_images_have_every_label():
    images, labels = labelled_test_images()
    assert images.shape == (2000, 1, 28, 28)
    assert labels.dtype == torch.int64
    assert sorted(set(labels.tolist())) == list(range(10))


def test_names_are_unique_and_found():
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert [zoo_model(model.name) for model in MODELS] == list(MODELS)
    assert [zoo_data(item.name) for item in DATA] == list(DATA)
    assert zoo_model("resnet2O") is None
    assert zoo_data("resnet20") is None


def test_files_are_reached_as_package_resources():
    folder = files("qcompile.zoo")
    for model in MODELS:
        assert folder.joinpath(model.weights_file).is_file()
    assert "Copyright (c) 2017 Zalando SE" in folder.joinpath("NOTICE").read_text()
