"""``heptune serve``, ``stop`` and ``keys``: the gateway, and who may ask it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.answers import Answer, command

app = typer.Typer()


keys = typer.Typer(no_args_is_help=True, help="API keys of the gateway.")
app.add_typer(keys, name="keys")


@command(app)
def serve(
    host: Annotated[str, typer.Option(help="Address; anything but loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8000,
) -> None:
    """Serve the champion over an OpenAI-compatible API; a new champion is swapped in."""
    from flows.wiring.params import read_params
    from flows.wiring.releases.serving import serve as serve_champion

    serve_champion(read_params(), host, port)


@command(app)
def stop() -> Answer:
    """End every gateway of this checkout, whoever started it."""
    from flows.wiring.releases.serving import stop_gateways

    ended = stop_gateways()
    values = {"stopped": [{"url": gateway.url, "pid": gateway.mark[0]} for gateway in ended]}
    lines = [f"ended the gateway at {gateway.url} (pid {gateway.mark[0]})" for gateway in ended]
    return Answer(values, "\n".join(lines) or "no gateway of this checkout is up")


@command(keys, "add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    admin: Annotated[bool, typer.Option("--admin", help="It may load and unload adapters too.")] = False,
) -> Answer:
    """Make a key and print it, once."""
    from flows.wiring import artifacts
    from tasks.gateway.api import keys as ring

    key = ring.add_key(artifacts.KEYS, name, admin)
    return Answer({"name": name, "key": key, "admin": admin}, key)


@command(keys, "list")
def list_keys() -> Answer:
    """Names of the keys."""
    from flows.wiring import artifacts
    from tasks.gateway.api import keys as ring

    found = ring.read_keys(artifacts.KEYS)
    values = {"keys": [{"id": key.id, "name": key.name, "admin": key.admin} for key in found]}
    lines = [f"{key.id}  {key.name}" + ("  (admin)" if key.admin else "") for key in found]
    return Answer(values, "\n".join(lines) or "no keys")


@command(keys, "remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose key.")]) -> Answer:
    """Take a key back; a running gateway follows."""
    from flows.wiring import artifacts
    from tasks.gateway.api import keys as ring

    ring.remove_key(artifacts.KEYS, name)
    left = len(ring.read_keys(artifacts.KEYS))
    none = f"no keys are left, so every request is refused; delete {artifacts.KEYS} to serve without keys"
    return Answer({"removed": name, "left": left}, f"removed: {name}" if left else none)
