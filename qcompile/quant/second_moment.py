"""Symmetric sums of outer products ``x^T y``, at little more than half of the work."""

from torch import Tensor

_LEAF = 128
"""Width below which the whole product is the faster one."""


def products(k: int) -> int:
    """Multiplications for one sample; ``k * k`` would be the whole."""
    half = k // 2
    return k * k if k <= _LEAF else products(half) + products(k - half) + half * (k - half)


def second_moment(left: Tensor, right: Tensor) -> Tensor:
    """``left^T @ right`` for ``[groups, samples, k]``, where one is the other times row weights.

    By halves: the block above the diagonal is computed, and copied below.
    """
    k = left.shape[-1]
    if k <= _LEAF:
        return left.transpose(1, 2) @ right
    half = k // 2
    corner = left[..., :half].transpose(1, 2) @ right[..., half:]
    found = corner.new_empty(left.shape[0], k, k)
    found[:, :half, :half] = second_moment(left[..., :half], right[..., :half])
    found[:, half:, half:] = second_moment(left[..., half:], right[..., half:])
    found[:, :half, half:] = corner
    found[:, half:, :half] = corner.transpose(1, 2)
    return found
