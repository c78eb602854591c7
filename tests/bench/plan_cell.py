"""Measure one row of ``make bench-plan`` in a process of its own.

Reads the name of the row as JSON from standard input, writes its figures to standard output.
"""

import json
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

from qcompile.analysis.context import Context
from qcompile.analysis.decide import decide
from qcompile.analysis.forecast import forecast
from qcompile.analysis.graph_facts import graph_facts
from qcompile.analysis.rules.registry import run_rules
from qcompile.capture.blocks import find_units
from qcompile.capture.sites import find_sites
from qcompile.capture.trace import trace
from qcompile.diagnostics.source import Source
from qcompile.driver.front import check_source
from qcompile.driver.report import peak_rss_mb
from qcompile.policy.resolve import resolve
from tests.bench.generated_graph import residual_chain

RECIPE = """qrecipe 1
scheme w8a8 { weight int8; act uint8 }
scheme a8 { act uint8 }
policy main {
  use w8a8 for linear
  optional use a8 for add
}
"""


@dataclass(frozen=True)
class Case:
    model: nn.Module
    inputs: dict[str, Tensor]
    options: dict[str, object]


def llama_70b() -> Case:
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=8_192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8_192,
    )
    ids = torch.ones(2, 16, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Case(_empty(LlamaForCausalLM, config), inputs, {"use_cache": False})


def vit_b16() -> Case:
    """The defaults are those of ViT-B/16 at 224 pixels."""
    images = torch.zeros(2, 3, 224, 224)
    return Case(_empty(ViTForImageClassification, ViTConfig()), {"pixel_values": images}, {})


def _empty(kind: type[nn.Module], config: object) -> nn.Module:
    with torch.device("meta"):
        return kind(config).eval()


MODELS = {"llama-70b": llama_70b, "vit-b16": vit_b16}


def main() -> None:
    torch.set_num_threads(1)
    name = json.load(sys.stdin)["model"]
    started = time.process_time()
    if name in MODELS:
        case = MODELS[name]()
        started = time.process_time()
        graph = trace(case.model, (), {**case.inputs, **case.options}).module
        parameters = sum(p.numel() for p in case.model.parameters())
    else:
        graph = residual_chain(int(name.removeprefix("generated-")))
        parameters = sum(p.numel() for p in graph.parameters())
    captured = time.process_time()
    analyse(graph)
    figures = {
        "model": name,
        "parameters": parameters,
        "nodes": len(graph.graph.nodes),
        "capture_s": round(captured - started, 2),
        "analysis_s": round(time.process_time() - captured, 2),
        "peak_rss_mb": peak_rss_mb(),
        "torch": torch.__version__,
    }
    json.dump(figures, sys.stdout)


def analyse(graph: fx.GraphModule) -> None:
    """Everything between the capture and the plan."""
    recipe = check_source(Source("bench", RECIPE)).recipe
    assert recipe is not None
    sites = find_sites(graph)
    resolution, _ = resolve(recipe, sites)
    units, _ = find_units(graph)
    context = Context(recipe, graph, sites, resolution)
    run_rules(context)
    forecast(graph, units, decide(graph, sites, units, resolution))
    graph_facts(context, units)


if __name__ == "__main__":
    main()
