"""The augmentations, by the word of the language. A new one is a function and a row here."""

from qcompile.methods.axes import AugmentName
from qcompile.quant.augments.change import Draw
from qcompile.quant.augments.cutmix import cutmix
from qcompile.quant.augments.mixup import mixup
from qcompile.quant.augments.noise import noise

AUGMENTS: tuple[tuple[AugmentName, Draw], ...] = (
    ("noise", noise),
    ("mixup", mixup),
    ("cutmix", cutmix),
)


def augment(name: AugmentName) -> Draw | None:
    """``None`` leaves inputs as they are."""
    return dict(AUGMENTS).get(name)
