"""``images = { ... }`` of the ``model`` statement."""

import pytest

from qcompile.policy.images import Images
from tests.policy.compiled import W8, compiled, marked, recipe_of

MAIN = W8 + "policy main { use w8 for conv }\n"


def model(images):
    return f'model "a:b" {{ images = {images} }}\n{MAIN}'


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (
            "{ resize = 256; crop = 224; mean = [0.4, 0.5, 0.6]; std = [1, 1, 0.5] }",
            Images(resize=256, crop=(224, 224), mean=(0.4, 0.5, 0.6), std=(1, 1, 0.5)),
        ),
        (
            "{ crop = [9, 8]; mean = [0]; std = [2]; interpolation = bicubic }",
            Images(crop=(9, 8), mean=(0,), std=(2,), interpolation="bicubic"),
        ),
        ("{ resize = [9, 8]; mean = [0]; std = [1] }", Images(resize=(9, 8), mean=(0,), std=(1,))),
    ],
)
def test_what_pictures_go_through(images, wanted):
    recipe = recipe_of(model(images))
    assert recipe.images == wanted
    assert wanted.channels == len(wanted.mean)


def test_a_model_needs_to_say_nothing_of_pictures():
    assert recipe_of(f'model "a:b"\n{MAIN}').images is None


@pytest.mark.parametrize(
    ("images", "code", "at"),
    [
        ("224", "QR401", "224"),
        ("{ resize = [9]; crop = 9; mean = [0]; std = [1] }", "QR401", "[9]"),
        ("{ crop = 9.5; mean = [0]; std = [1] }", "QR401", "9.5"),
        ("{ crop = 0; mean = [0]; std = [1] }", "QR410", "0"),
        ("{ crop = 9; mean = [0, 0]; std = [1] }", "QR401", "[0, 0]"),
        ('{ crop = 9; mean = ["a"]; std = [1] }', "QR401", '["a"]'),
        ("{ crop = 9; mean = [true]; std = [1] }", "QR401", "[true]"),
        ("{ crop = 9; mean = [0]; std = [0] }", "QR410", "[0]"),
        ("{ crop = 9; mean = [0]; std = [1]; interpolation = cubic }", "QR410", "cubic"),
        ("{ crop = 9; mean = [0]; std = [1]; size = 9 }", "QR409", "size"),
    ],
)
def test_a_wrong_value_is_reported_once_where_it_stands(images, code, at):
    assert marked(compiled(model(images))[1]) == [(code, at)]


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ("{ crop = 9; mean = [0] }", "QR211"),
        ("{ crop = 9; std = [1] }", "QR211"),
        ("{ crop = 9; mean = [0]; std = [1, 1, 1] }", "QR405"),
        ("{ mean = [0]; std = [1] }", "QR405"),
        ("{ resize = 9; mean = [0]; std = [1] }", "QR405"),
        ("{ resize = 9; crop = 10; mean = [0]; std = [1] }", "QR405"),
        ("{ resize = [9, 20]; crop = 10; mean = [0]; std = [1] }", "QR405"),
    ],
)
def test_settings_that_do_not_go_together_are_marked_as_a_whole(images, code):
    assert marked(compiled(model(images))[1]) == [(code, f"images = {images}")]


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ({"mean": (0, 0), "std": (1, 1), "crop": (9, 9)}, "mean"),
        ({"mean": (0,), "std": (0,), "crop": (9, 9)}, "std"),
        ({"mean": (0,), "std": (1, 1, 1), "crop": (9, 9)}, "std"),
        ({"mean": (0,), "std": (1,), "resize": 9}, "resize"),
        ({"mean": (0,), "std": (1,), "crop": (9, 0)}, "crop"),
    ],
)
def test_no_value_is_illegal_wherever_it_comes_from(given, at):
    with pytest.raises(ValueError, match=at):
        Images(**given)
