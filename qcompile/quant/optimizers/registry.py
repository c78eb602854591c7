"""The step rules by the word of the recipe; one that torch has not is a file of this folder."""

from collections.abc import Callable, Sequence

from torch import Tensor, optim

from qcompile.methods.axes import Optimizer as Setting
from qcompile.methods.axes import OptimizerName
from qcompile.quant.optimizers.lion import Lion
from qcompile.quant.optimizers.sgd import Sgd
from qcompile.quant.optimizers.sign_sgd import SignSgd

Make = Callable[[Sequence[Tensor], Setting, float], optim.Optimizer]


def _sgd(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return Sgd(of, lr, setting.momentum or 0.0, setting.weight_decay or 0.0)


def _sign_sgd(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return SignSgd(of, lr, setting.momentum or 0.0)


def _adam(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return optim.Adam(of, lr=lr, betas=_betas(setting, 0.999), fused=True)


def _adamw(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    decay = 0.01 if setting.weight_decay is None else setting.weight_decay
    return optim.AdamW(of, lr=lr, betas=_betas(setting, 0.999), weight_decay=decay, fused=True)


def _nadam(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return optim.NAdam(of, lr=lr, betas=_betas(setting, 0.999))


def _adamax(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return optim.Adamax(of, lr=lr, betas=_betas(setting, 0.999))


def _adagrad(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return optim.Adagrad(of, lr=lr)


def _rmsprop(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return optim.RMSprop(of, lr=lr, momentum=setting.momentum or 0.0)


def _lion(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return Lion(of, lr, _betas(setting, 0.99), setting.weight_decay or 0.0)


OPTIMIZERS: tuple[tuple[OptimizerName, Make], ...] = (
    ("sgd", _sgd),
    ("sign_sgd", _sign_sgd),
    ("adam", _adam),
    ("adamw", _adamw),
    ("nadam", _nadam),
    ("adamax", _adamax),
    ("adagrad", _adagrad),
    ("rmsprop", _rmsprop),
    ("lion", _lion),
)


def optimizer(of: Sequence[Tensor], setting: Setting, lr: float) -> optim.Optimizer:
    return dict(OPTIMIZERS)[setting.name](of, setting, lr)


def _betas(setting: Setting, second: float) -> tuple[float, float]:
    """The defaults are those of the rules' papers."""
    beta1 = 0.9 if setting.beta1 is None else setting.beta1
    return beta1, second if setting.beta2 is None else setting.beta2
