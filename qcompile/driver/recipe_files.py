"""What a plan calls the files of its recipe: never by a path of one machine."""

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

from qcompile.data.project import project_around
from qcompile.policy.choice import ChoicePlan
from qcompile.policy.core import SitePlan, TunePlan
from qcompile.policy.imports import LIBRARY
from qcompile.policy.recipe import Recipe
from qcompile.policy.rule_ref import RuleRef


def closure_texts(recipe: Recipe) -> dict[str, str]:
    """Every file of the recipe, itself first, under names by which they still find one another."""
    first, *others = recipe.closure
    name = shown_name(Path(first.name))
    texts = {name: first.text}
    for source in others:
        shown = source.name
        if not shown.startswith(LIBRARY):
            relative = posixpath.relpath(shown, posixpath.dirname(first.name) or ".")
            shown = posixpath.normpath(posixpath.join(posixpath.dirname(name), relative))
        texts[shown] = source.text
    return texts


def names_in_plan(recipe: Recipe, texts: Iterable[str]) -> dict[str, str]:
    """What the plan calls each file, by what rules call it; ``texts`` as of ``closure_texts``."""
    called = [
        PurePath(s.name).name if PurePath(s.name).is_absolute() else s.name for s in recipe.closure
    ]
    return dict(zip(called, texts, strict=True))


def shown_name(path: Path) -> str:
    """A recipe's name in a plan: as seen from its project's root, never a machine's path."""
    root = project_around(path.parent).root
    absolute = Path(os.path.abspath(path))
    inside = absolute.is_relative_to(root)
    return absolute.relative_to(root).as_posix() if inside else path.name


def placed(sites: Sequence[SitePlan], names: Mapping[str, str]) -> tuple[SitePlan, ...]:
    """The plans of ``sites`` with each rule's file called as the plan calls it."""
    called = partial(_called, names)
    return tuple(
        site.model_copy(
            update={
                "decided_by": called(site.decided_by),
                "tensors": tuple(
                    tensor.model_copy(
                        update={
                            "decided_by": called(tensor.decided_by),
                            "patched_by": tuple(map(called, tensor.patched_by)),
                            "shared_by": tensor.shared_by and called(tensor.shared_by),
                        }
                    )
                    for tensor in site.tensors
                ),
            }
        )
        for site in sites
    )


def placed_tunes(tunes: Sequence[TunePlan], names: Mapping[str, str]) -> tuple[TunePlan, ...]:
    return tuple(
        tune.model_copy(update={"decided_by": _called(names, tune.decided_by)}) for tune in tunes
    )


def placed_choice(choice: ChoicePlan | None, names: Mapping[str, str]) -> ChoicePlan | None:
    if choice is None:
        return None
    groups = tuple(
        group.model_copy(update={"decided_by": _called(names, group.decided_by)})
        for group in choice.groups
    )
    return choice.model_copy(update={"groups": groups})


def _called(names: Mapping[str, str], ref: RuleRef) -> RuleRef:
    return replace(ref, file=names.get(ref.file, ref.file))
