"""What a cell's process is told, as JSON. Loads no torch."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    test_data: str
    test_images: int
    plain_images: int
    """The first of them, whose accuracy is told apart; 0 where there are none such."""
    threads: int


class FloatRequest(_Frozen):
    """Measure the float model."""

    kind: Literal["float"] = "float"
    factory: str


class QuantizedRequest(_Frozen):
    """Quantize, and measure what came out."""

    kind: Literal["quantized"] = "quantized"
    recipe: str
    """File that ``text`` stands for."""
    text: str
    output: str
    """Folder of the artifact; the state of an unfinished run is kept beside it."""
    float_logits: str
    """Of the test images, as ``encoded`` by the cell's process."""
    is_timing: bool = False
    """Only the time is wanted: start anew, and measure nothing of what came out."""


Request: TypeAlias = FloatRequest | QuantizedRequest


def read_request(document: object) -> Request:
    adapter: TypeAdapter[Request] = TypeAdapter(
        FloatRequest | QuantizedRequest  # pyright: ignore[reportArgumentType]
    )
    return adapter.validate_python(document)
