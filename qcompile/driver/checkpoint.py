"""What a run commits after each unit, as bytes: the unit's result, and where to go on."""

import json
from typing import Any, cast

from pydantic import TypeAdapter
from safetensors.torch import load, save
from torch import Tensor

from qcompile.passes.reconstruct import Account
from qcompile.passes.sweep import UnitOutcome
from qcompile.passes.sweep_site import SiteFigures
from qcompile.passes.sweep_state import ChainState

_FIGURES = TypeAdapter(tuple[SiteFigures, ...])
_ACCOUNTS = TypeAdapter(tuple[tuple[str, Account], ...])


def result_bytes(outcome: UnitOutcome) -> bytes:
    figures = {
        "output_error": outcome.output_error,
        "sites": _FIGURES.dump_python(outcome.sites, mode="json"),
        "accounts": _ACCOUNTS.dump_python(outcome.accounts, mode="json"),
    }
    return save(_stored(outcome.tensors), {"figures": json.dumps(figures, sort_keys=True)})


def chain_bytes(state: ChainState) -> bytes:
    return save(_stored(state.tensors), {"unit": state.unit, "index": state.index})


def outcome_of(unit: str, result: bytes, chain: ChainState) -> UnitOutcome:
    figures = cast("dict[str, Any]", json.loads(_metadata(result)["figures"]))
    return UnitOutcome(
        unit=unit,
        tensors=load(result),
        output_error=figures["output_error"],
        sites=_FIGURES.validate_python(figures["sites"]),
        accounts=_ACCOUNTS.validate_python(figures["accounts"]),
        state=chain,
    )


def chain_of(data: bytes) -> ChainState:
    metadata = _metadata(data)
    return ChainState(metadata["unit"], load(data), metadata["index"])


def _stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}


def _metadata(payload: bytes) -> dict[str, str]:
    """Of bytes whose hash the run state has checked."""
    length = int.from_bytes(payload[:8], "little")
    return cast("dict[str, str]", json.loads(payload[8 : 8 + length])["__metadata__"])
