"""``python -m qcompile``."""

from qcompile.cli.main import main

main()
