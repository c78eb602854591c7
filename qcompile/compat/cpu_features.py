"""Which instructions the processor has."""

from torch.cpu import (
    _is_amx_tile_supported,  # pyright: ignore[reportPrivateUsage]
    _is_avx2_supported,  # pyright: ignore[reportPrivateUsage]
    _is_avx512_bf16_supported,  # pyright: ignore[reportPrivateUsage]
    _is_vnni_supported,  # pyright: ignore[reportPrivateUsage]
)


def multiplies_bf16() -> bool:
    """AMX tiles or AVX-512 BF16: without them bf16 products are emulated, and slower than fp32."""
    return _is_amx_tile_supported() or _is_avx512_bf16_supported()


def has_tiles() -> bool:
    """AMX."""
    return _is_amx_tile_supported()


def attends_bf16() -> bool:
    """Without AMX the gradient of attention takes 1.3 to 4 times as long as in fp32."""
    return has_tiles()


def multiplies_bytes() -> bool:
    """VNNI: without it sums of byte products saturate at 16 bits, which is wrong, not slow."""
    return _is_vnni_supported()


def has_avx2() -> bool:
    return _is_avx2_supported()
