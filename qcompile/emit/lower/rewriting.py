"""A copy of the reference graph while its layers are replaced."""

import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.fx.node import Argument

from qcompile.capture.memory import may_be_written
from qcompile.compat.onednn_operations import Operation
from qcompile.emit.lower.counterpart import Counterpart, counterpart, set_counterpart


@dataclass(slots=True)
class Rewriting:
    """``module`` is the reference, which stays as it is."""

    module: fx.GraphModule
    graph: fx.Graph = field(init=False)
    attributes: dict[str, object] = field(init=False)
    """What ``get_attr`` and ``call_module`` nodes refer to, by path."""
    made: set[str] = field(default_factory=set[str])
    of_reference: frozenset[str] = field(init=False)
    """Names of the reference's nodes."""

    def __post_init__(self) -> None:
        self.graph = copy.deepcopy(self.module.graph)
        self.attributes = {
            str(node.target): attrgetter(str(node.target))(self.module)
            for node in self.graph.nodes
            if node.op in {"call_module", "get_attr"}
        }
        self.of_reference = frozenset(node.name for node in self.graph.nodes)
        for node in list(self.graph.nodes):
            if isinstance(self.attributes.get(str(node.target)), nn.Identity):
                self.bypass(node, node.all_input_nodes[0])

    def buffer(self, name: str, tensor: Tensor) -> fx.Node:
        """Read ``tensor`` at the graph's point of insertion, under a name like ``name``."""
        path, number = name, 0
        while path in self.attributes or hasattr(self.module, path):
            number += 1
            path = f"{name}_{number}"
        self.attributes[path] = tensor
        self.made.add(path)
        return self.graph.get_attr(path)

    def optional(self, name: str, tensor: Tensor | None) -> fx.Node | None:
        return None if tensor is None else self.buffer(name, tensor)

    def call(self, function: Operation, *args: object) -> fx.Node:
        return self.graph.call_function(function, cast("tuple[Argument, ...]", args))

    def call_once(self, function: Operation, source: fx.Node, *rest: object) -> fx.Node:
        """The call that is there already, unless somebody may write to ``source`` in between."""
        made = self.call(function, source, *rest)
        for reader in source.users:
            if reader.target is not function or reader.args != made.args or not reader < made:
                continue
            if not may_be_written(self.module, source, reader, made):
                self.graph.erase_node(made)
                return reader
        return made

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Let ``new`` compute what ``old`` does, and drop what nothing reads any more."""
        new.meta.update(old.meta)
        if counterpart(old) is None and old.name in self.of_reference:
            set_counterpart(new, Counterpart(old.name))
        self.bypass(old, new)

    def bypass(self, old: fx.Node, new: fx.Node) -> None:
        """Let the readers of ``old`` read ``new``, which may have other readers."""
        old.replace_all_uses_with(new)
        self.drop(old)

    def drop(self, node: fx.Node) -> None:
        """Erase an unread node, then the arguments that only it read. Inputs stay."""
        if node.users or node.op == "placeholder":
            return
        used = node.all_input_nodes
        self.graph.erase_node(node)
        for argument in used:
            self.drop(argument)

    def finished(self) -> fx.GraphModule:
        """Build the module, in eval mode; packed weights belong to no state dict."""
        self.graph.lint()
        module = fx.GraphModule(cast("dict[str, Any]", self.attributes), self.graph)
        for name in self.made:
            if isinstance(tensor := getattr(module, name, None), Tensor):
                delattr(module, name)
                cast("nn.Module", module).register_buffer(name, tensor, persistent=False)
        return module.eval()
