import pytest

from qcompile.compat import llvm

VERSIONS = [("0.44.1", False), ("0.45.0", True), ("0.50.0rc1", True), ("1.0", True)]


@pytest.mark.parametrize(("found", "is_enough"), VERSIONS)
def test_the_version_is_asked_for(monkeypatch, found, is_enough):
    monkeypatch.setattr(llvm, "version", lambda name: found)
    assert llvm.has_llvm.__wrapped__() is is_enough


def test_nothing_installed_is_no_error(monkeypatch):
    def version(name):
        raise llvm.PackageNotFoundError(name)

    monkeypatch.setattr(llvm, "version", version)
    assert not llvm.has_llvm.__wrapped__()
