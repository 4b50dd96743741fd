"""``python -m bml``: the same as the command ``bml``."""

from bml.cli.main import main

main()
