"""An artifact as the directory that compressed-tensors (and with it vLLM and transformers) reads.

``pack-quantized`` for weights alone, ``int-quantized`` for 8-bit weights with 8-bit activations;
small floats have forms of their own (``compressed_levels``).
Integers there are signed: ours, counted from 0, are shifted by ``2^(bits - 1)``, with the zero
point. A model that came as a folder of transformers leaves as one: with its config, in which the
quantization is written, and its tokenizer.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import cast

import torch
from pydantic import JsonValue, TypeAdapter, ValidationError
from safetensors.torch import save
from torch import Tensor

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic
from qcompile.emit.artifact_files import DESCRIPTION_FOLDER
from qcompile.emit.planned_tensors import quantized_storages
from qcompile.emit.stored_artifact import StoredArtifact, corrupt
from qcompile.interop.compressed_levels import FORMS, level_arguments, level_tensors
from qcompile.interop.exported import Exported
from qcompile.interop.packed_matrix import PackedMatrix, packed_matrices
from qcompile.policy.core import UNTIE, PlanCore, SitePlan, TensorPlan
from qcompile.policy.number_format import IntFormat, has_blocks
from qcompile.policy.scheme import PerChannel, PerGroup, PerTensor, PerToken, QuantSlot
from qcompile.quant.activation_quantizer import has_run_time_range
from qcompile.quant.packing import pack
from qcompile.store.canonical import canonical_json

CONFIG_FILE = "config.json"
TIES = "tie_word_embeddings"
MODEL_FILE = "model.safetensors"
LINEAR = "torch.nn.Linear"
WORD_BITS = 32

Json = JsonValue
_DOCUMENT = TypeAdapter(dict[str, Json])


def compressed_tensors_files(
    stored: StoredArtifact, tensors: Mapping[str, Tensor]
) -> Exported | list[Diagnostic]:
    """``tensors`` are those of the artifact; its plan has passed ``check_plan``."""
    own = _own_config(stored.description)
    if isinstance(own, Diagnostic):
        return [own]
    core = stored.plan.core
    matrices = packed_matrices(core, tensors)
    quantized = quantized_storages(core)
    made = {
        record.name: tensors[record.name]
        for record in stored.graph.tensors
        if record.alias is None and record.persistent and record.name not in quantized
    }
    for site in core.sites:
        weight = _weight(site)
        if weight is None:
            continue
        matrix = matrices.get(weight.storage or "")
        if matrix is None:
            made |= level_tensors(site.path, weight, tensors)
        elif _activation(site) is None:
            made |= _packed(site.path, matrix)
        else:
            made |= _plain(site.path, matrix)
        made |= _static_range(site, tensors)
    plain = {name: tensor.contiguous() for name, tensor in sorted(made.items())}
    config = {**own, **_ties(core, own), "quantization_config": _configuration(stored)}
    files = {
        **stored.description,
        CONFIG_FILE: json.dumps(config, sort_keys=True, indent=2).encode("utf-8"),
        MODEL_FILE: save(plain, {"format": "pt"}),
    }
    return Exported(files, (_reader(core),) if own else ())


def _reader(core: PlanCore) -> str:
    """Of a whole folder: packed zero points, and blocks in float32, are not read otherwise."""
    loads = "`from_pretrained` of transformers loads it"
    specs = [weight.spec for site in core.sites if (weight := _weight(site))]
    is_plain = all(spec.symmetric and not has_blocks(spec.format) for spec in specs)
    option = "given `quantization_config=CompressedTensorsConfig(dequantize=True)`"
    return loads if is_plain else f"{loads}, {option}"


def _own_config(description: Mapping[str, bytes]) -> Mapping[str, Json] | Diagnostic:
    """Nothing where the model is no folder of transformers."""
    try:
        return _DOCUMENT.validate_json(description.get(CONFIG_FILE, b"{}"))
    except ValidationError:
        return corrupt(f"{DESCRIPTION_FOLDER}/{CONFIG_FILE}", "is not a config")


def _ties(core: PlanCore, own: Mapping[str, Json]) -> Mapping[str, Json]:
    """Readers tie what the config says is tied, or what is usual: a copy would be lost."""
    return {TIES: False} if own and _unties(core) else {}


def check_ties(
    core: PlanCore, description: Mapping[str, bytes], aliases: Collection[str]
) -> list[Diagnostic]:
    """QR550: a reader that is to tie nothing lacks what is tied still, ``aliases`` among it.

    A model of two halves has one table for both, under names that its graph need not have.
    """
    config = _own_config(description)
    if isinstance(config, Diagnostic):
        return [config]
    if not _unties(core) or not config:
        return []
    left = [f"`{path}`" for path in aliases]
    left += ["the tables of encoder and decoder"] if config.get("is_encoder_decoder") else []
    return [still_tied(left)] if left else []


def still_tied(left: Collection[str]) -> Diagnostic:
    """QR550."""
    return Diagnostic(
        Code.EXPORT_FORMAT,
        "`compressed-tensors` cannot hold weights that are untied beside others that are tied",
        notes=(f"tied still: {', '.join(left)}",),
        help="readers tie all or nothing: leave `set untie` out for this export",
    )


def _unties(core: PlanCore) -> bool:
    return any(item.name == UNTIE for item in core.transforms)


def _packed(module: str, matrix: PackedMatrix) -> dict[str, Tensor]:
    """``[out, words]`` along the input; zero points along the output, four or eight to a word."""
    made = {
        f"{module}.weight_packed": _words(matrix.codes, matrix.bits),
        f"{module}.weight_scale": _scale(matrix),
        f"{module}.weight_shape": torch.tensor(matrix.codes.shape, dtype=torch.int64),
    }
    if not matrix.plan.spec.symmetric:
        zero = matrix.zero_point
        per_tensor = isinstance(matrix.plan.spec.granularity, PerTensor)
        shifted = (zero - _shift(matrix)).to(torch.int8).reshape(-1)
        packed = shifted if per_tensor else _words(zero.t(), matrix.bits).t()
        made[f"{module}.weight_zero_point"] = packed
    return made


def _plain(module: str, matrix: PackedMatrix) -> dict[str, Tensor]:
    codes = matrix.codes.to(torch.int16) - _shift(matrix)
    made = {f"{module}.weight": codes.to(torch.int8), f"{module}.weight_scale": _scale(matrix)}
    if not matrix.plan.spec.symmetric:
        zero = (matrix.zero_point - _shift(matrix)).to(torch.int8)
        made[f"{module}.weight_zero_point"] = zero.reshape(_scale(matrix).shape)
    return made


def _static_range(site: SitePlan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plan = _activation(site)
    if plan is None or has_run_time_range(plan.spec):
        return {}
    made = {f"{site.path}.input_scale": tensors[f"{site.key}:act.scale"]}
    if not plan.spec.symmetric:
        zero = tensors[f"{site.key}:act.zero_point"].to(torch.int16) - 128
        made[f"{site.path}.input_zero_point"] = zero.to(torch.int8)
    return made


def _words(rows: Tensor, bits: int) -> Tensor:
    """Each row as one bit stream, filled up to whole int32."""
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % (WORD_BITS // bits)))
    return pack(padded, bits).view(torch.int32).reshape(rows.shape[0], -1)


def _scale(matrix: PackedMatrix) -> Tensor:
    """``[1]`` for one scale, otherwise ``[out, groups]``."""
    per_tensor = isinstance(matrix.plan.spec.granularity, PerTensor)
    return matrix.scale.reshape(1) if per_tensor else matrix.scale


def _shift(matrix: PackedMatrix) -> int:
    return 1 << (matrix.bits - 1)


# ---- config.json --------------------------------------------------------------------------------


def _configuration(stored: StoredArtifact) -> dict[str, Json]:
    """Modules of equal slots are one group, named by the modules themselves."""
    core = stored.plan.core
    members: dict[bytes, list[str]] = defaultdict(list)
    groups: dict[bytes, dict[str, Json]] = {}
    formats: set[str] = set()
    for site in core.sites:
        weight = _weight(site)
        if weight is None:
            continue
        activation = _activation(site)
        alone = "pack-quantized" if activation is None else "int-quantized"
        form = FORMS.get(str(weight.spec.format), alone)
        group: dict[str, Json] = {
            "weights": _arguments(weight.spec),
            "input_activations": None if activation is None else _arguments(activation.spec),
            "output_activations": None,
            "format": form,
        }
        key = canonical_json(group)
        groups[key] = group
        members[key].append(site.path)
        formats.add(form)
    return {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{number}": {**group, "targets": cast("Json", members[key])}
            for number, (key, group) in enumerate(groups.items())
        },
        "ignore": _untouched(stored),
        "kv_cache_scheme": None,
    }


def _untouched(stored: StoredArtifact) -> list[Json]:
    """Linear layers that stay in float: some readers want each of them to be spoken of."""
    touched = {site.path for site in stored.plan.core.sites if _weight(site) is not None}
    linear = (leaf.path for leaf in stored.graph.leaves if leaf.class_name == LINEAR)
    return [path for path in linear if path not in touched]


def _arguments(spec: QuantSlot) -> dict[str, Json]:
    match spec.granularity:
        case PerTensor():
            strategy, size = "tensor", None
        case PerChannel():
            strategy, size = "channel", None
        case PerGroup(size=size):
            strategy = "group"
        case PerToken():
            strategy, size = "token", None
    found: dict[str, Json] = {
        "num_bits": spec.bits,
        "type": "int",
        "symmetric": spec.symmetric,
        "strategy": strategy,
        "group_size": size,
        "dynamic": has_run_time_range(spec),
    }
    return found if isinstance(spec.format, IntFormat) else found | level_arguments(spec)


def _weight(site: SitePlan) -> TensorPlan | None:
    return next((plan for plan in site.tensors if plan.slot == "weight"), None)


def _activation(site: SitePlan) -> TensorPlan | None:
    return next((plan for plan in site.tensors if plan.slot != "weight"), None)
