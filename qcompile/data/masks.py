"""The padding mask of a batch: which positions are its samples' own.

It is a tensor of the batch by name, which most models take as an input; of those that do not, it is
kept away.
"""

import inspect

from torch import Tensor, nn

from qcompile.data.batches import Batch, split_off
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.diagnostics.suggest import did_you_mean

WAY_OUT = "give whole numbers [samples, tokens], 0 for padding, at least one other in each sample"


def mask_of(batch: Batch, name: str, reference: str) -> Tensor | Diagnostic:
    """``bool[samples, tokens]``, true for own positions; QR719 where there is no such tensor."""
    if not isinstance(batch, dict):
        what = "has batches without names, so that none is the mask"
        return unfit_mask(reference, name, what, "return dicts of tensors")
    given = batch.get(name)
    if given is None:
        guess = did_you_mean(name, batch)
        return unfit_mask(reference, name, f"has no tensor `{name}`", guess or WAY_OUT)
    if given.dim() != 2 or given.is_floating_point() or given.is_complex():
        kind = str(given.dtype).removeprefix("torch.")
        return unfit_mask(reference, name, f"has {kind} {[*given.shape]} in `{name}`", WAY_OUT)
    own = given != 0
    if not bool(own.any(1).all()):
        return unfit_mask(reference, name, f"has a sample that `{name}` masks whole", WAY_OUT)
    return own


def without_mask(batch: Batch, name: str | None, module: nn.Module) -> Batch:
    """``batch`` for a model that may have no use for its mask."""
    if name is None or takes(module, name):
        return batch
    return split_off(batch, name)[0]


def takes(module: nn.Module, name: str) -> bool:
    """By that name, or by any."""
    parameters = inspect.signature(module.forward).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return takes_all or name in parameters


def names(module: nn.Module, name: str) -> bool:
    """Whether it is an input that the model itself calls so."""
    return name in inspect.signature(module.forward).parameters


def unfit_mask(reference: str, name: str, what: str, way_out: str) -> Diagnostic:
    """QR719: nothing, or something else, where the mask should be."""
    return Diagnostic(Code.MASK, f"`{reference}` {what}", subject=name, help=way_out)


def captured_without(reference: str, name: str) -> Diagnostic:
    """QR719: without its mask the model would look at the padding."""
    return unfit_mask(
        reference,
        name,
        f"is masked by `{name}`, which the model takes, and its graph was captured without",
        f"name all in the `model` statement: `inputs = {{ ..., {name} = int64[batch, seq] }}`",
    )
