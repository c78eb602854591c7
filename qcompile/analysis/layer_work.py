"""How long single steps of a run take: evaluating a node, finding a range, fitting a layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod, sqrt

from torch import fx

from qcompile.analysis.actual_sizes import ActualSizes
from qcompile.analysis.speeds import Pace, Speeds
from qcompile.capture.kinds import is_structural
from qcompile.capture.operations import bare_name
from qcompile.capture.rotation import BlockRotation
from qcompile.compat.submodules import module_at
from qcompile.data.groups import JUDGING
from qcompile.methods.tuning import Tuning
from qcompile.policy.core import TensorPlan
from qcompile.policy.number_format import CodebookFormat, IntFormat, PowerFormat
from qcompile.policy.scheme import Lsq, Mse, PerToken, QuantSlot, SignedMse
from qcompile.policy.site import Kind, Site
from qcompile.quant.activation_quantizer import OF_EXPONENT
from qcompile.quant.geometry import PIECE, ROWS_PER_INPUT
from qcompile.quant.layer import STRIDE
from qcompile.quant.layer_solver import TRIAL_ROWS
from qcompile.quant.level_search import CANDIDATES, COARSE_FACTORS, EXPONENT_STEPS
from qcompile.quant.moments import tells_by_inputs
from qcompile.quant.output_range import USUAL, rows_looked_at
from qcompile.quant.range_search import SHRINK_FACTORS
from qcompile.quant.sampling import LIMIT
from qcompile.quant.scale_search import COARSE, FINE
from qcompile.quant.second_moment import products

FUNCTIONS = frozenset({"gelu", "silu", "mish", "sigmoid", "tanh", "softplus", "elu", "softmax"})
"""Elementwise with an exponential inside; other activations cost what an addition does."""
SCALES = len(COARSE) + len(FINE)
"""Looked at for each row where nearest rounding has its scale fitted."""
BLENDED = 4
"""Errors on held-out batches for each damping: at three points to the target, and as rounded."""
PLAIN = 3
"""Tensors that a plain pass reads and writes."""
SUMS = 4
"""Of squares or of values in double precision, in the time of one comparison."""
SEARCHES = (Mse, Lsq, SignedMse)
"""Observers that compare ranges."""
BOTH_ENDS = 7
"""Up to these bits a signed symmetric search tries each factor with either end code."""


@dataclass(frozen=True, slots=True)
class MatrixLayer:
    """A layer as its solvers see it: ``groups`` products of ``positions x k`` and ``k x rows``."""

    groups: int
    positions: int
    """Of one batch."""
    k: int
    rows: int
    at_once: int
    """Positions whose patches are made together: ``quant.geometry.pieces``."""

    @property
    def macs(self) -> int:
        return self.groups * self.positions * self.k * self.rows


@dataclass(frozen=True)
class LayerWork:
    graph: fx.GraphModule
    sites: Mapping[str, Site]
    """By node name."""
    sizes: ActualSizes
    speeds: Speeds

    def evaluate(self, node: fx.Node, pace: Pace = "forward") -> float:
        """One batch through a node, and its gradient back where it is for training."""
        training = pace != "forward"
        fixed = self.speeds.call * (3 if training else 1)
        if is_structural(node, self.graph):
            return fixed
        elements = self.sizes.elements(node)
        site = self.sites.get(node.name)
        layer = None if site is None else matrix_layer(site, self.sizes.elements(node))
        if site is not None and layer is not None:
            moved = fixed + self._moved(node)
            return moved + layer.macs * self._product(site, layer, pace)
        if site is not None and site.kind in (Kind.MATMUL, Kind.ATTENTION):
            return fixed + self._moved(node) + self._free_product(node, site, pace)
        rotation = self._rotation(node)
        if rotation is not None:
            block = rotation.block
            return fixed + elements * block * self.speeds.product("linear", block, pace)
        kind = "norm" if site is not None and site.kind is Kind.NORM else "plain"
        kind = "function" if self._name(node) in FUNCTIONS else kind
        return fixed + elements * self.speeds.over(kind, elements, training=training)

    def range_search(
        self, spec: QuantSlot, elements: int, limit: int | None = LIMIT, stride: int = 1
    ) -> float:
        """Of a static range; a search looks at ``limit`` elements at most, of an activation."""
        looked_at = elements if limit is None else min(elements, limit)
        calls = ceil(looked_at / LIMIT)
        seen = self.speeds.over("plain", elements) * elements
        if isinstance(spec.format, IntFormat):
            return seen + candidates(spec, stride) * self.speeds.search.seconds(looked_at, calls)
        seen += candidates(spec) * self.speeds.levels.seconds(looked_at, calls)
        few = looked_at if limit is None else looked_at / OF_EXPONENT
        return seen + behind_exponents(spec) * self.speeds.levels.seconds(few, ceil(few / LIMIT))

    def statistics(self, layer: MatrixLayer) -> float:
        """The moments of one batch: patches, then two products, then sums of the outputs."""
        samples = layer.groups * layer.positions
        by_inputs = tells_by_inputs(layer.groups, layer.rows, layer.k)
        sums = products(layer.k) + layer.k * (layer.k if by_inputs else layer.rows)
        seconds = samples * sums * self.speeds.product("linear", layer.k)
        # each is copied, moved and summed up; of the outputs the squares are summed, too
        for width, count in ((layer.k, 1), (layer.rows, 2)):
            made = layer.groups * layer.at_once * width
            compared = count * self.speeds.over("compare", made) / SUMS
            seconds += samples * width * (2 * self.speeds.over("plain", made) + compared)
        return seconds

    def solve(self, layer: MatrixLayer, tuning: Tuning, spec: QuantSlot, weights: int) -> float:
        """What the layer's solvers do once the moments are there."""
        k, rows = layer.k, layer.groups * layer.rows
        ridge = self.speeds.solver("ridge")
        dampings = len(tuning.damping)
        if dampings > 1:  # each on some rows, and the best one's factor on all
            tried = layer.groups * ceil(layer.rows / max(layer.rows // TRIAL_ROWS, 1))
            errors = 1 if tuning.target == "symmetric" else BLENDED
            judged = errors * ridge.product * k * k * tried
            total = dampings * (ridge.seconds(k, tried) + self._first(tuning, k, tried) + judged)
            total += ridge.product * k * k * rows
        else:
            total = ridge.seconds(k, rows)
        total += self._first(tuning, k, rows * len(tuning.scale_factors))
        if tuning.target != "symmetric" and isinstance(spec.format, IntFormat):
            total += self.range_search(spec, weights, limit=None, stride=STRIDE)
        descents = tuning.solvers[1:].count("cd")
        if "scale" in tuning.learn and tuning.fits_nearest:
            total += SCALES * k * k * rows * self.speeds.product("linear", k)
        elif "scale" in tuning.learn:
            total += tuning.refits * self.speeds.solver("refit").seconds(k, rows)
        return total + descents * self.speeds.solver("descent").seconds(k, rows)

    def output_search(self, layer: MatrixLayer, batches: float) -> float:
        """Of the range of its input behind which a weight does best: it is fitted and judged."""
        fitted, judging = judged_rows(layer, batches)
        speed = self.speeds.product("linear", layer.k)
        multiplied = fitted * (products(layer.k) + layer.k * layer.rows)
        multiplied += judging * layer.k * layer.rows + layer.k**2 * (layer.rows + layer.k / 6)
        elements = layer.groups * (fitted + judging) * layer.k
        passes = 3 * self.speeds.over("plain", elements) + self.speeds.over("quantize", elements)
        drawn_from = layer.groups * layer.positions * (layer.k + layer.rows)
        drawing = batches * drawn_from * self.speeds.over("plain", drawn_from)
        return USUAL * (layer.groups * multiplied * speed + elements * passes) + drawing

    def quantize(self, node: fx.Node, *, training: bool = False, drops: bool = False) -> float:
        """``drops``: each element stays in float by chance."""
        elements = self.sizes.elements(node)
        kind = "drop" if drops else "quantize"
        return elements * self.speeds.over(kind, elements, training=training)

    def _moved(self, node: fx.Node) -> float:
        """What a product reads and writes: of large tensors that takes longer than the sums."""
        sizes = [self.sizes.elements(one) for one in (node, *node.all_input_nodes)]
        return sum(size * self.speeds.over("plain", size) / PLAIN for size in sizes if size)

    def _first(self, tuning: Tuning, k: int, rows: int) -> float:
        if tuning.solvers[0] == "optq":
            return self.speeds.solver("optq").seconds(k, rows)
        return k * rows * self.speeds.over("quantize", k * rows)

    def _product(self, site: Site, layer: MatrixLayer, pace: Pace) -> float:
        if site.kind is Kind.LINEAR:
            width = round(sqrt(layer.k * layer.rows))
            return self.speeds.product("linear", width, pace)
        if layer.groups > 1:
            return self.speeds.product("depthwise", layer.groups, pace)
        inputs = site.in_features or layer.rows
        return self.speeds.product("conv", round(sqrt(inputs * layer.rows)), pace)

    def _free_product(self, node: fx.Node, site: Site, pace: Pace) -> float:
        """Of two values: every element made is a sum over the last axis of the first."""
        first = next((n for n in node.all_input_nodes if n.name in site.operands), node)
        shape = self.sizes.shape(first)
        if not shape:
            return 0.0
        if site.kind is Kind.ATTENTION:
            tokens = shape[-2]
            speed = self.speeds.product("attention", tokens, pace)
            return self.sizes.elements(node) * 2 * tokens * speed
        speed = self.speeds.product("linear", shape[-1], pace)
        return self.sizes.elements(node) * shape[-1] * speed

    def _rotation(self, node: fx.Node) -> BlockRotation | None:
        leaf = module_at(self.graph, str(node.target)) if node.op == "call_module" else None
        return leaf if isinstance(leaf, BlockRotation) else None

    def _name(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(module_at(self.graph, str(node.target))).__name__.lower()
        return bare_name(node)


def matrix_layer(site: Site, elements: int) -> MatrixLayer | None:
    """``None`` for what is no product of rows and one weight; it makes ``elements`` a batch."""
    if site.weight is None or site.kind not in (Kind.CONV, Kind.LINEAR):
        return None
    out, groups = site.out_features, site.groups or 1
    if not out or not elements:
        return None
    positions, k = elements // out, prod(site.weight.shape) // out
    at_once = max(PIECE // (groups * k), ROWS_PER_INPUT * k)
    if site.kind is Kind.LINEAR:
        at_once = positions
    return MatrixLayer(groups, positions, k, out // groups, min(at_once, positions))


def judged_rows(layer: MatrixLayer, batches: float) -> tuple[int, int]:
    """On which the range of its input is chosen: rows of the fit, and rows that judge."""
    fitted, judging = rows_looked_at(layer.groups, layer.k)
    there = round(batches * layer.positions)
    held = max(there // JUDGING, 1)
    return min(fitted, there), min(judging, held)


def candidates(spec: QuantSlot, stride: int = 1) -> int:
    """Grids that a range search compares; of a power grid, once its exponent is known."""
    searches = isinstance(spec.observer, SEARCHES)
    if isinstance(spec.format, CodebookFormat) or not searches:
        return 0  # what Lloyd's algorithm takes is next to nothing
    if not isinstance(spec.format, IntFormat):
        return CANDIDATES
    signed = spec.format.signed
    ends = 2 if spec.symmetric and signed and spec.bits <= BOTH_ENDS else 1
    return ends * len(SHRINK_FACTORS[::stride]) + 2 * (stride - 1)


def behind_exponents(spec: QuantSlot) -> int:
    """Scales that a search for an exponent compares."""
    if not isinstance(spec.format, PowerFormat) or spec.format.exponent is not None:
        return 0
    searches = isinstance(spec.observer, SEARCHES)
    return (2 + EXPONENT_STEPS) * (1 + (len(COARSE_FACTORS) if searches else 0))


def is_static(plan: TensorPlan) -> bool:
    """The range of an activation is found before the run of the model, not in it."""
    return not plan.spec.dynamic and not isinstance(plan.spec.granularity, PerToken)
