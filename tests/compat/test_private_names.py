import ast
from importlib import import_module
from pathlib import Path

import pytest

from qcompile.compat import private_names
from qcompile.compat.private_names import PRIVATE_NAMES

COMPAT = Path(private_names.__file__).parent


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_private_name_exists_in_this_torch(name):
    module, _, attribute = name.partition(":")
    assert hasattr(import_module(module), attribute)


def test_every_private_import_is_listed():
    private = ("torch._", "torch.fx.experimental", "torch.utils._")
    imported = {
        f"{node.module}:{alias.name}"
        for path in COMPAT.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(private)
        for alias in node.names
    }
    assert imported
    assert imported <= set(PRIVATE_NAMES)
