"""A model is calibrated and measured on folders of pictures."""

import shutil

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

import qcompile
from qcompile.cli.main import main
from qcompile.driver.plan import plan_recipe
from qcompile.zoo import fashion_mnist

COUNT = 40
RECIPE = """qrecipe 1
model "zoo:resnet20" {{
  images = {{ resize = [28, 28]; mean = [0.286]; std = [0.353] }}
}}
scheme w8a8 {{
  weight int8
  act uint8 asymmetric
}}
policy main {{ use w8a8 for conv or linear }}
calibrate {{
  data = "{calibration}"
  samples = 32
  batch = 16
  seed = 1
}}
evaluate top1 {{
  data = "{test}"
  batch = 16
}}
"""
TENSORS = """
from qcompile.zoo import fashion_mnist

def calibration():
    return fashion_mnist.calibration()[:40]

def test():
    images, labels = fashion_mnist.test()
    order = labels[:40].argsort(stable=True)
    return images[:40][order], labels[:40][order]
"""


def save(images, folder, names):
    for image, name in zip(images, names, strict=True):
        pixels = (image[0] * fashion_mnist.STD + fashion_mnist.MEAN) * 255
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.round().to(torch.uint8).numpy()).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "qcompile.toml").write_text("")
    (folder / "tensors.py").write_text(TENSORS)
    numbers = [f"{number:02d}" for number in range(COUNT)]
    save(fashion_mnist.calibration()[:COUNT], folder / "calib", numbers)
    images, labels = fashion_mnist.test()
    names = [f"{label}/{number}" for label, number in zip(labels.tolist(), numbers, strict=False)]
    save(images[:COUNT], folder / "test", names)
    text = RECIPE.format(calibration="images:calib", test="images:test")
    (folder / "pictures.qrecipe").write_text(text)
    text = RECIPE.format(calibration="tensors:calibration", test="tensors:test")
    (folder / "tensors.qrecipe").write_text(text)
    return folder


def invoke(folder, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def artifact(folder):
    result = invoke(folder, "run", "pictures.qrecipe", "-o", "out", "-q")
    assert result.exit_code == 0, result.output
    return folder / "out"


def test_pictures_and_the_tensors_in_them_are_the_same_samples(folder):
    of_pictures, of_tensors = (
        plan_recipe(folder / f"{name}.qrecipe").plan.core for name in ("pictures", "tensors")
    )
    assert of_pictures.data is not None
    assert of_tensors.data is not None
    assert of_pictures.data.sha256 == of_tensors.data.sha256
    assert of_pictures.data.indices == of_tensors.data.indices


def test_an_artifact_knows_what_pictures_go_through(folder, artifact):
    (of_pictures,) = qcompile.evaluate(artifact, root=folder)
    (of_tensors,) = qcompile.evaluate(artifact, data="tensors:test", labels="label", root=folder)
    (again,) = qcompile.evaluate(artifact, data="images:test", root=folder)
    assert of_pictures.samples == of_tensors.samples == COUNT
    assert of_pictures.value == of_tensors.value == again.value > 0.8


def test_the_command_measures_beside_the_float_model(folder, artifact):
    result = invoke(folder, "eval", artifact.name, "--float", "--data", "images:test")
    assert result.exit_code == 0, result.output
    assert "agreement" in result.output


def test_some_of_the_classes_cannot_be_numbered_by_their_order(folder, artifact):
    for number in (3, 5):
        shutil.copytree(folder / "test" / str(number), folder / "some" / f"class {number}")
    result = invoke(folder, "eval", artifact.name, "--data", "images:some")
    assert result.exit_code == 1
    assert "`images:some` has 2 folders, the model 10 outputs" in " ".join(result.output.split())
    for number in (0, 1):
        shutil.copytree(folder / "test" / str(number), folder / "numbered" / str(number))
    assert invoke(folder, "eval", artifact.name, "--data", "images:numbered").exit_code == 0


def test_pictures_without_classes_have_no_labels(folder, artifact):
    result = invoke(folder, "eval", artifact.name, "--data", "images:calib", "--metric", "top1")
    assert result.exit_code == 1
    assert "`top1` needs labels" in result.output


def test_a_class_that_the_model_does_not_have(folder, artifact):
    shutil.copytree(folder / "test" / "3", folder / "beyond" / "10")
    result = invoke(folder, "eval", artifact.name, "--data", "images:beyond")
    assert result.exit_code == 1
    assert "meets the label 10, and there are 10 outputs" in " ".join(result.output.split())


def test_agreement_needs_no_classes(folder, artifact):
    arguments = ("--data", "images:calib", "--metric", "agreement")
    result = invoke(folder, "eval", artifact.name, "--float", *arguments)
    assert result.exit_code == 0, result.output


def test_a_folder_of_hugging_face_brings_what_pictures_go_through(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "image_size": 16, "patch_size": 8}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_channels": 3}
    config = ViTConfig(**sizes, **heads, num_labels=10)
    config.id2label = {place: str(9 - place) for place in range(10)}
    config.label2id = {name: place for place, name in config.id2label.items()}
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")
    result = invoke(folder, "init", "hf:vit", "-o", "vit.qrecipe")
    assert result.exit_code == 0, result.output
    text = (folder / "vit.qrecipe").read_text()
    assert 'data = "images:calibration"' in text
    assert 'data = "images:test"' in text
    (folder / "vit.qrecipe").write_text(text.replace("images:calibration", "images:calib"))
    result = invoke(folder, "run", "vit.qrecipe", "-o", "vit-out", "-q")
    assert result.exit_code == 0, result.output
    result = invoke(folder, "eval", "vit-out", "--float")
    assert result.exit_code == 0, result.output
    files = sorted((folder / "test").rglob("*.png"))
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    images = processor([Image.open(file).convert("RGB") for file in files], return_tensors="pt")
    with torch.no_grad():
        decided = model(images["pixel_values"]).logits.argmax(-1)
    right = sum(str(9 - int(d)) == f.parent.name for d, f in zip(decided, files, strict=True))
    assert f"{right / COUNT:.4f}" in result.output  # of the float model
