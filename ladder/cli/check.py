"""`ragladder check`: validates everything and prints the plan, running nothing."""

from __future__ import annotations

from ._show import print_json
from .options import Config, Json, Overrides, command

__all__ = ["check"]


def check(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Validate config, data, components and credentials, and print the plan and its cost. Nothing is run."""
    from ...core.errors import EndpointError
    from ...core.progress import Reporter
    from ..climb import prepare
    from ..plan import describe

    ready = prepare(config, set_ or (), Reporter(quiet=True))
    lines = describe(ready.bench)
    unreachable = [line for line in lines if "NOT REACHABLE" in line]
    if json:
        print_json({"ok": not unreachable, "plan": lines})
    else:
        print("\n".join(lines))
    if unreachable:
        raise EndpointError(f"{unreachable[0]}; start the server, or correct its settings, and check again")
    if json:
        return
    print(f"ok: {config} can be climbed\nnext: {command('climb', config, set_)}")
