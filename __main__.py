"""`python -m ragladder` is the command `ragladder`; launchers of several processes (torchrun) start it so."""

from __future__ import annotations

from .ladder.cli import main

if __name__ == "__main__":
    main()
