"""What a share of the artifact's bytes is owed to: a rule, or the lack of one."""

from qcompile.diagnostics.frozen import frozen
from qcompile.diagnostics.quantities import human_bytes, several
from qcompile.policy.rule_ref import RuleRef

SHOWN = 3


@frozen
class SizePart:
    rule: RuleRef | None
    """``None``: tensors that stay in float."""
    tensors: tuple[tuple[str, int], ...]
    """Name and bytes, the largest first."""

    @property
    def nbytes(self) -> int:
        return sum(nbytes for _, nbytes in self.tensors)

    def __str__(self) -> str:
        """``1.2 MB by `use w8 for linear` (net.qrecipe:4): 3 tensors, the largest `fc` 1 MB``."""
        owed = "in float" if self.rule is None else f"by `{self.rule.text}` ({self.rule})"
        name, largest = self.tensors[0]
        of = several(len(self.tensors), "tensor")
        most = (
            f"the largest `{name}` {human_bytes(largest)}" if len(self.tensors) > 1 else f"`{name}`"
        )
        return f"{human_bytes(self.nbytes)} {owed}: {of}, {most}"


def largest_parts(parts: tuple[SizePart, ...]) -> tuple[str, ...]:
    """As notes of a diagnostic."""
    return tuple(str(part) for part in sorted(parts, key=lambda part: -part.nbytes)[:SHOWN])
