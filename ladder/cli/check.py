"""`ragladder check`: validates everything and prints the plan, running nothing."""

from __future__ import annotations

from .options import Config, Json, Overrides, command

__all__ = ["check"]


def check(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Validate config, data, components and credentials, and print the plan and its cost. Nothing is run."""
    from ...core.progress import Reporter
    from ..climb import prepare
    from ..plan import describe

    ready = prepare(config, set_ or (), Reporter(quiet=True))
    lines = describe(ready.bench)
    if json:
        import json as json_module

        print(json_module.dumps({"ok": True, "plan": lines}, indent=1))
        return
    for line in lines:
        print(line)
    print(f"ok: {config} can be climbed\nnext: {command('climb', config, set_)}")
