"""Measure one row of ``make bench-plan`` in a process of its own.

Reads ``{"model": NAME}`` as JSON from standard input, writes its figures to standard output. What
is timed is what ``qcompile plan --preview`` runs, up to the plan as it is printed.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import torch
from transformers import LlamaConfig, PretrainedConfig, ViTConfig

from qcompile.capture.captured import Captured
from qcompile.capture.sites import find_sites
from qcompile.cli.plan_view import plan_text
from qcompile.data.model_source import LoadedModel
from qcompile.data.weights import MemoryWeights
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import Seen, bind_seen, look
from qcompile.driver.example import Example
from qcompile.driver.front import check_source
from qcompile.driver.plan import make_plan
from qcompile.driver.process_memory import peak_rss_mb
from qcompile.policy.recipe import Recipe
from tests.bench.cells import Json
from tests.bench.generated_graph import SHAPES

CHAIN = """qrecipe 1
model "bench:generated" { input = float32[batch, 8] }
scheme w8a8 { weight int8; act uint8 }
scheme w4a8 extends w8a8 { weight with bits=4 }
scheme a8   { act uint8 }
policy main {
  use w8a8 for linear
  use w4a8 for "blocks.*.down"
  use w8a8 for "stem" or "head"
  use a8 for add
  set weight.bits = 6 for "blocks.0.**" and linear
}
blocks { each "blocks.*" }
calibrate { data = "bench:data"; samples = 8; seed = 1 }
tune hybrid
tune brecq for "blocks.0.**" and linear
expect count(linear and quantized) >= 2
expect all("stem" is scheme(w8a8))
"""

LLAMA_INPUTS = "{ input_ids = int64[batch, seq], attention_mask = int64[batch, seq] }"
PREVIEW = """qrecipe 1
model "hf:." {{ {inputs} }}
scheme w4a8 {{ weight int4; act int8 per_token }}
policy main {{
  use w4a8 for linear
  skip last(linear)
}}
expect none(norm and quantized)
"""


def llama_70b() -> PretrainedConfig:
    """That of a Llama with 80 layers and 70 billion parameters."""
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=8_192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8_192,
        architectures=["LlamaForCausalLM"],
    )


def vit_b16() -> PretrainedConfig:
    """The defaults are those of ViT-B/16 at 224 pixels."""
    return ViTConfig(architectures=["ViTForImageClassification"])


PREVIEWS = MappingProxyType(
    {
        "llama-70b": (llama_70b, f"inputs = {LLAMA_INPUTS}"),
        "vit-b16": (vit_b16, "input = float32[batch, 3, 224, 224]"),
    }
)
"""By name: a configuration, and what the model takes. There are no weights."""


def main() -> None:
    torch.set_num_threads(1)
    name: str = json.load(sys.stdin)["model"]
    analysed("chain", 50)  # what is built on first use is no part of the model's time
    json.dump({"model": name, **_figures(name), "torch": torch.__version__}, sys.stdout)


def _figures(name: str) -> Mapping[str, Json]:
    if name not in PREVIEWS:
        shape, _, nodes = name.rpartition("-")
        return analysed(shape, int(nodes))
    config, inputs = PREVIEWS[name]
    with TemporaryDirectory() as folder:
        config().save_pretrained(folder)
        text = PREVIEW.format(inputs=inputs)
        recipe = _recipe(Source(str(Path(folder) / "bench.qrecipe"), text))
        started = time.process_time()
        seen = look(recipe, preview=True)
        captured = time.process_time()
        return _planned(recipe, seen, captured) | {"capture_s": round(captured - started, 2)}


def analysed(shape: str, nodes: int) -> dict[str, Json]:
    """A graph as a capture leaves it; it was not captured, so that is not timed."""
    recipe = _recipe(Source("bench.qrecipe", CHAIN))
    graph = SHAPES[shape](nodes)
    started = time.process_time()
    seen = Seen(
        loaded=LoadedModel(graph, MemoryWeights({}), None, "bench:generated"),
        example=Example((torch.zeros(2, 8),)),
        captured=Captured(graph, "fake", (), ()),
        sites=find_sites(graph),
        diagnostics=(),
    )
    return _planned(recipe, seen, started)


def _planned(recipe: Recipe, seen: Seen, started: float) -> dict[str, Json]:
    planned = make_plan(bind_seen(recipe, seen, preview=True))
    plan_text(planned.plan)
    return {
        "parameters": sum(p.numel() for p in seen.loaded.module.parameters()),
        "nodes": len(seen.captured.module.graph.nodes),
        "sites": len(planned.plan.core.sites),
        "analysis_s": round(time.process_time() - started, 2),
        "peak_rss_mb": peak_rss_mb(),
    }


def _recipe(source: Source) -> Recipe:
    checked = check_source(source)
    assert checked.recipe is not None, checked.diagnostics
    return checked.recipe


if __name__ == "__main__":
    main()
