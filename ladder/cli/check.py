"""`ragladder check`: validates everything and prints the plan, running nothing."""

from __future__ import annotations

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
        import json as json_module

        print(json_module.dumps({"ok": not unreachable, "plan": lines}, indent=1))
    else:
        print("\n".join(lines))
    if unreachable:
        raise EndpointError(f"{unreachable[0]}; start the server, or correct its settings, and check again")
    if json:
        return
    print(f"ok: {config} can be climbed\nnext: {command('climb', config, set_)}")
