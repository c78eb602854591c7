import hashlib
import json

import pytest
from pydantic import ValidationError

from qcompile.methods.tuning import Tuning
from qcompile.policy.core import DataPlan, FileHash, ParameterPlan, PlanCore
from qcompile.policy.document import Frozen
from qcompile.policy.identity import core_sha256, differences, stale_plan
from qcompile.policy.scheme import IntFormat, PerGroup, QuantSlot

CORE = PlanCore(
    language=1,
    tool="0.1.0",
    model="zoo:x",
    weights=None,
    recipe=(FileHash(name="größe.qrecipe", sha256="00"),),
    graph_sha256="01",
    weights_sha256="02",
    data=DataPlan(reference="zoo:d", samples=2, batch=1, indices=(3, 1), sha256="03"),
    seed=0,
    transforms=(),
    units=(),
    sites=(),
    tuning=Tuning(preset="rtn", solvers=("rtn",)),
    bytes_before=10,
    bytes_after=5,
)


def test_hash_is_over_canonical_json():
    text = json.dumps(CORE.model_dump(mode="json"), sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False)  # fmt: skip
    assert "größe" in text
    assert core_sha256(CORE) == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_hash_survives_a_round_trip_through_disk():
    assert core_sha256(PlanCore.model_validate_json(CORE.model_dump_json())) == core_sha256(CORE)


@pytest.mark.parametrize(
    ("update", "part"),
    [
        ({"recipe": ()}, ["recipe"]),
        ({"params": (ParameterPlan(name="bits", value=3),)}, ["parameters"]),
        ({"model": "zoo:y"}, ["model"]),
        ({"graph_sha256": "x"}, ["graph"]),
        ({"weights_sha256": "x"}, ["weights"]),
        ({"weights": "w.safetensors"}, ["weights"]),
        ({"data": None}, ["data"]),
        ({"tool": "0.2.0"}, ["tool"]),
        ({"seed": 1}, ["seed"]),
        ({"bytes_after": 6}, ["settings"]),
        ({"recipe": (), "bytes_after": 6}, ["recipe"]),
        ({"tool": "0.2.0", "weights_sha256": "x"}, ["weights", "tool"]),
        ({}, []),
    ],
)
def test_difference_names_what_a_person_changed(update, part):
    assert differences(CORE, CORE.model_copy(update=update)) == part


def test_every_changed_core_has_another_hash():
    assert core_sha256(CORE.model_copy(update={"seed": 1})) != core_sha256(CORE)


def test_stale_plan_names_the_parts():
    diagnostic = stale_plan("a.plan.json", ["weights", "data", "tool"])
    assert diagnostic.code.number == "QR708"
    assert "weights, data and tool changed" in diagnostic.message
    assert diagnostic.subject == "a.plan.json"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("steps", -1),
        ("warmup", 1.0),
        ("keep_quantized", 1.5),
        ("lr", 0.0),
        ("solvers", ["annealing"]),
        ("preset", 3),
        ("stepz", 3),
    ],
)
def test_a_tuning_that_was_written_by_hand_is_held_to_its_bounds(name, value):
    document = CORE.model_dump(mode="json")
    document["tuning"][name] = value
    with pytest.raises(ValidationError) as refused:
        PlanCore.model_validate_json(json.dumps(document))
    assert name in str(refused.value)


def test_values_inside_a_document_are_written_with_their_kind():
    slot = QuantSlot(format=IntFormat(bits=4, signed=True), symmetric=True,
                     granularity=PerGroup(size=32))  # fmt: skip
    document = Slots(spec=slot).model_dump(mode="json")
    assert document["spec"] == {
        "kind": "quant", "format": {"kind": "int", "bits": 4, "signed": True}, "symmetric": True,
        "granularity": {"kind": "per_group", "size": 32}, "observer": {"kind": "mse", "p": 2.4},
        "dynamic": False,
    }  # fmt: skip
    assert Slots.model_validate(document) == Slots(spec=slot)
    document["spec"]["granularity"]["size"] = 0
    with pytest.raises(ValidationError, match="`size` out of range"):
        Slots.model_validate(document)


class Slots(Frozen):
    spec: QuantSlot
