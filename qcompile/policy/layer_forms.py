"""A planned site in the words that a target is asked in."""

from qcompile.policy.core import SitePlan, TensorPlan
from qcompile.policy.scheme import PerGroup, PerToken, QuantSlot
from qcompile.targets.layer_form import ADD, ADD_CODES, LayerForm, TensorForm


def layer_form(site: SitePlan) -> LayerForm:
    weight = next((tensor for tensor in site.tensors if tensor.slot == "weight"), None)
    acts = tuple(_tensor(tensor.spec) for tensor in site.tensors if tensor.slot != "weight")
    if weight is None:
        is_code_sum = site.kind == ADD and len(acts) == 1
        return LayerForm(ADD_CODES if is_code_sum else site.kind, None, acts)
    inputs, outputs = _features(site, weight)
    return LayerForm(_operation(site, weight), _tensor(weight.spec), acts, inputs, outputs)


def _operation(site: SitePlan, weight: TensorPlan) -> str:
    """Tell convolutions apart by their weight: ``[out, in, *kernel]``, ``[in, out, *kernel]``."""
    if site.kind != "conv":
        return site.kind
    direction = "conv_transpose" if weight.output_axis else "conv"
    return f"{direction}{len(weight.shape) - 2}d"


def _features(site: SitePlan, weight: TensorPlan) -> tuple[int | None, int | None]:
    if site.kind != "linear" or len(weight.shape) != 2:
        return None, None
    outputs = weight.shape[weight.output_axis]
    return weight.shape[1 - weight.output_axis % 2], outputs


def _tensor(spec: QuantSlot) -> TensorForm:
    granularity = spec.granularity
    is_grouped = isinstance(granularity, PerGroup)
    return TensorForm(
        format=str(spec.format),
        symmetric=spec.symmetric,
        # `per_channel(1)`, along the inputs, is another form than `per_channel`
        granularity=granularity.kind if is_grouped else str(granularity),
        group=granularity.size if is_grouped else None,
        dynamic=spec.dynamic or isinstance(granularity, PerToken),
    )
