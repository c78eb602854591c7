"""Colours of bits: viridis, dark is few. Their lightness alone tells them apart."""

COLOURS = {
    2: "#440154",
    3: "#443983",
    4: "#31688e",
    5: "#21918c",
    6: "#35b779",
    7: "#90d743",
    8: "#fde725",
}
DARK = 4
"""Up to so many bits writing on a colour is white."""
FLOAT_COLOUR = "#bdbdbd"


def bits_colour(bits: int | None) -> str:
    """``None``: a float."""
    return FLOAT_COLOUR if bits is None else COLOURS.get(bits, COLOURS[8])
