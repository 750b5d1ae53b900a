"""`python -m cips3d` is `cips3d`."""

from cips3d.cli import main

main()
