"""``init``: from a model alone to a recipe that can be planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from qcompile.data.image_processing import PROCESSOR
from qcompile.data.purpose import MODEL
from qcompile.data.reference import (
    CallableReference,
    HuggingFaceReference,
    ZooReference,
    parse_reference,
)
from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.diagnostic import Diagnostic, in_order
from qcompile.diagnostics.failure import CompileError
from qcompile.diagnostics.source import Source
from qcompile.driver.bind import Seen, bind_seen, look
from qcompile.driver.format import ENDING, format_source, write
from qcompile.driver.front import check_source, seen_from_here, settled
from qcompile.driver.plan import make_plan
from qcompile.driver.project_files import ProjectFiles
from qcompile.driver.starting_policy import Start, starting_policy
from qcompile.driver.starting_recipe import (
    UNKNOWN,
    StartingData,
    pictures,
    probe_text,
    recipe_text,
    shipped,
    texts,
)
from qcompile.policy.recipe import Recipe
from qcompile.store.atomic import check_new_file
from qcompile.zoo.catalogue import zoo_model


@dataclass(frozen=True, slots=True)
class Started:
    """``diagnostics`` are those of a preview of the recipe that was written."""

    path: Path
    start: Start
    diagnostics: tuple[Diagnostic, ...]


def init(
    reference: str,
    output: Path | None = None,
    *,
    inputs: tuple[str, ...] = (),
    trusted: frozenset[str] = frozenset(),
    replace: bool = False,
) -> Started:
    """Write a starting recipe for the model to ``output``, from whose folder it is looked up.

    ``inputs`` are what ``model`` takes: ``float32[batch, 3, 32, 32]``, or several of
    ``name=int64[batch, seq]``. Raises ``CompileError`` where the model cannot be looked at; nothing
    is written then.
    """
    path = seen_from_here(Path(_file_name(reference)) if output is None else output)
    occupied = check_new_file(path, replace)
    if occupied:
        raise CompileError(occupied)
    if not inputs and isinstance(parse_reference(reference, MODEL), CallableReference):
        raise CompileError([unknown_inputs(reference)])
    probe = _lowered(Source(str(path), probe_text(reference, inputs)))
    seen = look(probe, trusted=trusted, preview=True)
    start = starting_policy(seen.sites, takes_words=_takes_words(seen))
    if start is None:
        raise CompileError([nothing_to_quantize(reference)])
    named = [name for name, _ in seen.example.named(seen.loaded.module)]
    data = _data(reference, start, named, seen)
    text = _laid_out(path, recipe_text(reference, inputs, start, data))
    found = _preview(text, seen, trusted)
    problems = write(path, text.text)
    if problems:
        raise CompileError(problems)
    return Started(path, start, tuple(found))


def _file_name(reference: str) -> str:
    match parse_reference(reference, MODEL):
        case ZooReference(name):
            stem = name
        case HuggingFaceReference(directory):
            stem = PurePosixPath(directory).name or "model"
        case CallableReference(attribute=attribute):
            stem = attribute
        case Diagnostic() as problem:
            raise CompileError([problem])
        case _:
            raise AssertionError("parse_reference refuses data where a model is needed")
    return stem + ENDING


def _lowered(source: Source) -> Recipe:
    checked = check_source(source, ProjectFiles.around(Path(source.name)))
    if checked.recipe is None:
        raise CompileError(list(checked.diagnostics))
    return checked.recipe


def _takes_words(seen: Seen) -> bool:
    example = [*seen.example.args, *seen.example.kwargs.values()]
    return not any(value.is_floating_point() for value in example)


def _longest_text(seen: Seen) -> int | None:
    """Of a model of transformers that has a table of places."""
    config = cast("object", getattr(seen.loaded.module, "config", None))
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _data(reference: str, start: Start, inputs: Sequence[str], seen: Seen) -> StartingData:
    """``inputs`` are the names of what the model takes."""
    match parse_reference(reference, MODEL), inputs:
        case ZooReference(name), _:
            model = zoo_model(name)
            assert model is not None  # it was looked at
            return shipped(f"zoo:{model.data}/calib", f"zoo:{model.data}/test")
        case HuggingFaceReference(), ["input_ids"]:
            return texts(_longest_text(seen), is_measured=start.library == "decoder")
        case HuggingFaceReference(), ["pixel_values"] if PROCESSOR in seen.loaded.description:
            name = type(seen.loaded.module).__name__
            return pictures(are_classified=name.endswith("ForImageClassification"))
        case _:
            return UNKNOWN


def _laid_out(path: Path, text: str) -> Source:
    formatted = format_source(Source(str(path), text))
    if isinstance(formatted, list):
        raise AssertionError(f"the starting recipe is none: {formatted[0].message}")
    return formatted.after


def _preview(text: Source, seen: Seen, trusted: frozenset[str]) -> list[Diagnostic]:
    """What ``plan --preview`` will say of the recipe, its errors included."""
    checked = check_source(text, ProjectFiles.around(Path(text.name)))
    if checked.recipe is None:
        return in_order(checked.diagnostics)
    try:
        planned = make_plan(bind_seen(checked.recipe, seen, trusted=trusted, preview=True))
    except CompileError as error:
        return settled(checked, error.diagnostics)
    return settled(checked, planned.diagnostics)


def unknown_inputs(reference: str) -> Diagnostic:
    """QR211: the model is a function, and nothing says what it is called with."""
    return Diagnostic(
        Code.MISSING_STATEMENT,
        "nothing says what the inputs of the model are",
        subject=reference,
        help="add `--input 'float32[batch, 3, 224, 224]'`, or one "
        "`--input 'NAME=int64[batch, seq]'` for each; names are sizes that may vary",
    )


def nothing_to_quantize(reference: str) -> Diagnostic:
    """QR302: a model without convolutions and linear layers."""
    return Diagnostic(
        Code.EMPTY_SELECTION,
        "the model has neither a convolution nor a linear layer",
        subject=reference,
        help="what else it has can be selected by kind or path: `use w8 for embedding`",
    )
