"""References to models, data and metrics: ``pkg.mod:callable``, ``zoo:NAME``, ``hf:DIR``, ...

A prefix wins over a module of the same name; a module called ``zoo`` is reached through its
package. The callable form has no calls and no attribute chains: what runs is one named function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from types import MappingProxyType
from typing import TypeAlias

from qcompile.data.purpose import DATA, MODEL, Purpose
from qcompile.diagnostics.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True)
class CallableReference:
    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, slots=True)
class ZooReference:
    name: str

    def __str__(self) -> str:
        return f"zoo:{self.name}"


@dataclass(frozen=True, slots=True)
class SafetensorsReference:
    file: str

    def __str__(self) -> str:
        return f"safetensors:{self.file}"


@dataclass(frozen=True, slots=True)
class TextReference:
    file: str

    def __str__(self) -> str:
        return f"text:{self.file}"


@dataclass(frozen=True, slots=True)
class ImagesReference:
    directory: str

    def __str__(self) -> str:
        return f"images:{self.directory}"


@dataclass(frozen=True, slots=True)
class HuggingFaceReference:
    directory: str

    def __str__(self) -> str:
        return f"hf:{self.directory}"


Reference: TypeAlias = (
    CallableReference
    | ZooReference
    | SafetensorsReference
    | TextReference
    | ImagesReference
    | HuggingFaceReference
)


@dataclass(frozen=True, slots=True)
class Form:
    """A prefix, and what may be referred to by it."""

    prefix: str
    purposes: tuple[Purpose, ...]


FORMS: tuple[Form, ...] = (
    Form("zoo", (MODEL, DATA)),
    Form("safetensors", (DATA,)),
    Form("hf", (MODEL,)),
    Form("text", (DATA,)),
    Form("images", (DATA,)),
)


_PREFIXED: Mapping[str, Callable[[str], Reference]] = MappingProxyType(
    {
        "zoo": ZooReference,
        "safetensors": SafetensorsReference,
        "text": TextReference,
        "images": ImagesReference,
        "hf": HuggingFaceReference,
    }
)


def parse_reference(text: str, purpose: Purpose) -> Reference | Diagnostic:
    prefix, _, rest = text.partition(":")
    form = next((item for item in FORMS if item.prefix == prefix), None)
    if form is None:
        return _parse_callable(text, purpose)
    if purpose not in form.purposes:
        return wrong_purpose(text, form, purpose)
    if not rest:
        return malformed(text, purpose)
    return _PREFIXED[form.prefix](rest)


def is_text(text: str) -> bool:
    return isinstance(parse_reference(text, DATA), TextReference)


def malformed(text: str, purpose: Purpose) -> Diagnostic:
    """QR520, QR710 or QR713: the text has none of the forms of a reference."""
    forms = [f"`{form.prefix}:...`" for form in FORMS if purpose in form.purposes]
    others = f"; other forms are {', '.join(forms)}" if forms else ""
    guess = _as_dotted(text)
    return Diagnostic(
        purpose.reference,
        f"`{text}` is not a {purpose.noun} reference",
        subject=text,
        notes=(f"a function is named `package.module:function`, and is not called{others}",),
        help=f"did you mean `{guess}`?" if guess else None,
    )


def wrong_purpose(text: str, form: Form, purpose: Purpose) -> Diagnostic:
    """QR520, QR710 or QR713: for example a ``safetensors:`` file where a model is needed."""
    nouns = " or ".join(item.noun for item in form.purposes)
    return Diagnostic(
        purpose.reference,
        f"`{form.prefix}:` names {nouns}, not {purpose.noun}",
        subject=text,
        help="name a function as `package.module:function`",
    )


def _parse_callable(text: str, purpose: Purpose) -> Reference | Diagnostic:
    module, _, attribute = text.partition(":")
    if not (_is_name(attribute) and all(map(_is_name, module.split(".")))):
        return malformed(text, purpose)
    return CallableReference(module, attribute)


def _is_name(part: str) -> bool:
    return part.isidentifier() and not iskeyword(part)


def _as_dotted(text: str) -> str | None:
    """``models/net.py:build()`` as ``models.net:build``; a last dot as a colon."""
    path, colon, attribute = text.strip().removesuffix("()").partition(":")
    if not colon:
        path, _, attribute = path.rpartition(".")
    module = path.removeprefix("./").removesuffix(".py").replace("/", ".")
    parts = [*module.split("."), attribute]
    return f"{module}:{attribute}" if all(map(_is_name, parts)) else None
