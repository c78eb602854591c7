"""``images:`` data: pictures of a folder, and what they go through."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, BitImageProcessor, ViTImageProcessor

from qcompile.data.image_folder import SUFFIXES
from qcompile.data.image_processing import processed
from qcompile.data.images import FORMATS, ImageSource
from qcompile.data.reading import Reading
from qcompile.data.sources import open_data
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.failure import CompileError
from qcompile.policy.images import Images

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
EIGHT = Reading(images=Images(resize=(8, 8), mean=ZEROS, std=ONES))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width=8, height=8, mode="RGB", seed=0):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, *channels), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def save(project):
    """Write pictures below the folder, each another one."""

    def write(*names, **given):
        for seed, name in enumerate(names):
            path = project / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(seed=seed, **given).save(path)
        return project

    return write


def opened(project, reading=EIGHT) -> ImageSource:
    source, problems = open_data("images:pictures", project, reading=reading)
    assert isinstance(source, ImageSource), problems
    return source


def problem(project, reading=EIGHT):
    source, problems = open_data("images:pictures", project, reading=reading)
    assert source is None
    (one,) = problems
    return one


def test_pictures_are_in_the_order_of_their_names_and_have_no_labels(save):
    source = opened(save("b.png", "a.png", "c.bmp"))
    assert source.listed.files == ("a.png", "b.png", "c.bmp")
    assert source.labels is None
    batch = source.read([2, 0])
    assert isinstance(batch, Tensor)
    assert batch.shape == (2, 3, 8, 8)
    first = source.read([0])
    assert isinstance(first, Tensor)
    assert torch.equal(batch[1:], first)
    assert not torch.equal(batch[0], batch[1])


def test_folders_are_classes_in_the_order_of_their_names(save):
    source = opened(save("cat/a.png", "cat/old/b.png", "ant/z.png"))
    _, labels = source.read(range(len(source)))
    assert source.listed.files == ("ant/z.png", "cat/a.png", "cat/old/b.png")
    assert labels.tolist() == [0, 1, 1]
    assert (source.labels, source.listed.ordered_classes) == ("label", 2)


def test_folders_that_are_called_by_numbers_are_these_classes(save):
    source = opened(save("10/a.png", "7/a.png", "7/old/b.png"))
    _, labels = source.read(range(len(source)))
    assert labels.tolist() == [10, 7, 7]
    assert source.listed.ordered_classes is None


def test_hidden_and_other_files_are_no_pictures(save):
    project = save("cat/a.png", "cat/._a.png", ".thumbnails/a.png", "cat/.checkpoints/a.png")
    (project / "pictures" / "classes.txt").write_text("cat")
    source = opened(project)
    assert source.listed.files == ("cat/a.png",)
    assert source.listed.ordered_classes == 1


def test_a_link_to_a_folder_is_a_class(save):
    project = save("cat/a.png")
    (project / "pictures" / "dog").symlink_to(project / "pictures" / "cat")
    assert opened(project).listed.files == ("cat/a.png", "dog/a.png")


def test_a_link_to_the_folder_itself_is_none(save):
    project = save("cat/a.png")
    (project / "pictures" / "me").symlink_to(project / "pictures")
    assert opened(project).listed.files == ("cat/a.png",)


def test_every_suffix_is_one_that_pillow_reads():
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES} <= set(FORMATS) <= set(Image.OPEN)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1/a.png", "01/a.png"], "has two folders for one class, `01` and `1`"),
        (["cat/a.png", "dog/a.heic"], "has no pictures in `dog`, which is a class"),
        (["cat/a.png", "dog/.a.png"], "has no pictures in `dog`, which is a class"),
    ],
)
def test_classes_that_would_change_the_numbers_of_others(project, names, words):
    for name in names:
        file = project / "pictures" / name
        file.parent.mkdir(parents=True)
        picture().save(file, format="PNG")
    found = problem(project)
    assert found.code is Code.DATA_REFERENCE
    assert words in found.message


def test_names_beyond_nine_digits_are_no_numbers(save):
    source = opened(save("20231130123456789012/a.png"))
    assert source.listed.classes == (0,)
    assert source.listed.ordered_classes == 1


def labelled(project, numbers):
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text(json.dumps({"label2id": numbers}))
    return Reading("hf:model", images=EIGHT.images)


def test_a_model_numbers_the_names_of_its_classes(save):
    project = save("ape/a.png", "zebra/a.png")
    source = opened(project, labelled(project, {"zebra": 0, "ape": 1, "cat": 2}))
    assert source.listed.classes == (1, 0)
    assert source.listed.ordered_classes is None


def test_a_class_that_the_model_does_not_name(save):
    project = save("ape/a.png", "zebr/a.png")
    found = problem(project, labelled(project, {"zebra": 0, "ape": 1}))
    assert "has a folder `zebr`, and the model has no class of that name" in found.message
    assert found.help == "did you mean `zebra`?"


@pytest.mark.parametrize("numbers", [{"LABEL_0": 0, "LABEL_1": 1}, {}, None, [1], {"ape": "x"}])
def test_names_that_tell_nothing_leave_the_order(save, numbers):
    project = save("ape/a.png", "zebra/a.png")
    assert opened(project, labelled(project, numbers)).listed.ordered_classes == 2


def test_a_name_that_no_folder_can_have(project):
    source, problems = open_data(f"images:{'x' * 300}", project, reading=EIGHT)
    assert source is None
    assert problems[0].code is Code.DATA_REFERENCE


def test_a_format_that_would_start_another_program_is_not_read(save):
    project = save("a.png")
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    (project / "pictures" / "a.png").write_bytes(text)
    (note,) = problem(project).notes
    assert "UnidentifiedImageError" in note


def test_a_name_with_a_line_break_stays_on_one_line(save):
    project = save("a\nb.png")
    (project / "pictures" / "a\nb.png").write_bytes(b"")
    assert "`a?b.png`" in problem(project).message


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_become_what_the_model_takes(save, mode, channels):
    images = Images(resize=(8, 8), mean=(0.5,) * channels, std=(0.25,) * channels)
    batch = opened(save("a.png", mode=mode), Reading(images=images)).read([0])
    wanted = np.asarray(picture(mode=mode).convert("L" if channels == 1 else "RGB"))
    of_numpy = (wanted.reshape(8, 8, channels).transpose(2, 0, 1) / 255 - 0.5) / 0.25
    assert isinstance(batch, Tensor)
    np.testing.assert_allclose(batch[0].numpy(), of_numpy, atol=1e-6)


def test_numbers_are_those_of_torchvision():
    """``ToTensor`` divides by 255, ``Normalize`` subtracts and divides, each in float32."""
    images = Images(resize=(8, 8), mean=MEAN, std=STD)
    pixels = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1).contiguous()
    mean, std = (torch.tensor(given).view(-1, 1, 1) for given in (MEAN, STD))
    wanted = pixels.to(torch.float32).div(255).sub(mean).div(std)
    assert torch.equal(processed(picture(), images), wanted)


@pytest.mark.parametrize(
    ("size", "resize", "wanted"),
    [
        ((20, 10), 8, (16, 8)),
        ((10, 21), 8, (8, 16)),
        ((9, 9), 8, (8, 8)),
        ((20, 10), (6, 7), (7, 6)),
    ],
)
def test_the_shorter_side_is_resized_and_the_other_follows(size, resize, wanted):
    images = Images(resize=resize, crop=wanted[::-1], mean=ZEROS, std=ONES)
    made = processed(picture(*size), images)
    assert made.shape[:0:-1] == wanted
    plain = picture(*size).resize(wanted, Image.Resampling.BILINEAR)
    assert torch.equal((made * 255).round().byte(), pixels_of(plain))


def pixels_of(made):
    return torch.from_numpy(np.asarray(made).copy()).permute(2, 0, 1)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolation_is_that_of_pillow(name):
    images = Images(resize=(5, 5), mean=ZEROS, std=ONES, interpolation=name)
    plain = picture().resize((5, 5), Image.Resampling[name.upper()])
    made = processed(picture(), images)
    assert torch.equal((made * 255).round().byte(), pixels_of(plain))


def test_each_interpolation_makes_another_picture():
    made = [
        processed(picture(), Images(resize=(5, 5), mean=ZEROS, std=ONES, interpolation=name))
        for name in ("nearest", "bilinear", "bicubic", "lanczos")
    ]
    assert all(not torch.equal(one, other) for one, other in pairwise(made))


def test_the_middle_is_cropped():
    images = Images(crop=(2, 5), mean=ZEROS, std=ONES)
    made = processed(picture(9, 8), images)
    assert torch.equal((made * 255).round().byte(), pixels_of(picture(9, 8))[:, 3:5, 2:7])


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 12, "width": 10}),
        BitImageProcessor(size={"shortest_edge": 12}, crop_size={"height": 9, "width": 9}),
    ],
)
def test_a_folder_of_hugging_face_says_itself_what_pictures_go_through(save, processor):
    project = save("a.png", "b.png", width=20, height=16)
    (project / "model").mkdir()
    processor.save_pretrained(project / "model")
    source = opened(project, Reading("hf:model"))
    batch = source.read([0, 1])
    pictures = [picture(20, 16, seed=seed) for seed in range(2)]
    by_pillow = AutoImageProcessor.from_pretrained(project / "model", backend="pil")
    assert isinstance(batch, Tensor)
    assert torch.equal(batch, by_pillow(pictures, return_tensors="pt")["pixel_values"])


def test_the_recipe_has_the_last_word_on_pictures(save):
    project = save("a.png")
    (project / "model").mkdir()
    ViTImageProcessor(size={"height": 12, "width": 10}).save_pretrained(project / "model")
    reading = Reading("hf:model", images=EIGHT.images)
    batch = opened(project, reading).read([0])
    assert isinstance(batch, Tensor)
    assert batch.shape == (1, 3, 8, 8)


@pytest.mark.parametrize("model", [None, "net:build", "zoo:resnet20"])
def test_without_a_word_on_pictures_nothing_is_guessed(save, model):
    found = problem(save("a.png"), Reading(model))
    assert found.code is Code.DATA_REFERENCE
    assert "the model says nothing of pictures" in found.message
    assert "images = {" in (found.help or "")


def test_a_folder_of_hugging_face_without_a_processor_is_named(save):
    project = save("a.png")
    (project / "model").mkdir()
    assert (
        "`model` has no `preprocessor_config.json`" in problem(project, Reading("hf:model")).message
    )


def test_a_processor_that_is_none_is_a_diagnostic(save):
    project = save("a.png")
    (project / "model").mkdir()
    (project / "model" / "preprocessor_config.json").write_text("{")
    found = problem(project, Reading("hf:model"))
    assert found.code is Code.DATA_REFERENCE
    assert "model/preprocessor_config.json" in found.message


def test_pictures_of_several_sizes_for_the_model(save):
    project = save("a.png", width=20, height=10)
    picture(10, 10).save(project / "pictures" / "b.png")
    (project / "model").mkdir()
    keeping = BitImageProcessor(size={"shortest_edge": 8}, do_center_crop=False)
    keeping.save_pretrained(project / "model")
    source = opened(project, Reading("hf:model"))
    with pytest.raises(CompileError) as caught:
        source.read([0, 1])
    (found,) = caught.value.diagnostics
    assert found.code is Code.DATA_REFERENCE
    assert "[3, 8, 16] and [3, 8, 8] (`b.png`)" in found.message


@pytest.mark.parametrize("cut", [0, 30, 100])
def test_a_broken_picture_is_named(save, cut):
    project = save("a.png")
    path = project / "pictures" / "a.png"
    path.write_bytes(path.read_bytes()[:cut])
    found = problem(project)
    assert found.code is Code.DATA_REFERENCE
    assert "`a.png` of `images:pictures` cannot be used" in found.message


def test_a_picture_smaller_than_its_crop_is_named(save):
    crops = Reading(images=Images(crop=(9, 8), mean=ZEROS, std=ONES))
    (note,) = problem(save("a.png"), crops).notes
    assert "it has 8 x 8 pixels, and `crop` takes 9 x 8" in note


def test_numbers_of_more_than_a_byte_are_not_cut_off(project):
    (project / "pictures").mkdir()
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(deep).save(project / "pictures" / "a.png")
    (note,) = problem(project).notes
    assert "more than 8 bits" in note


def test_a_picture_that_would_fill_the_memory_is_refused(save, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (note,) = problem(save("a.png")).notes
    assert "DecompressionBombError" in note


def test_pictures_in_folders_and_beside_them(save):
    found = problem(save("a.png", "cat/a.png"))
    assert found.code is Code.DATA_REFERENCE
    assert "`cat`" in found.message
    assert "`a.png`" in found.message


def test_a_folder_without_pictures(project):
    (project / "pictures").mkdir()
    found = problem(project)
    assert found.code is Code.EMPTY_DATA
    assert ".png" in found.notes[0]


def test_no_folder(project):
    assert "is no folder" in problem(project).message


def test_without_pillow_the_extra_is_named(save, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    found = problem(save("a.png"))
    assert found.code is Code.DATA_REFERENCE
    assert "qcompile[images]" in (found.help or "")
