"""``heptune serve``, ``stop`` and ``keys``: the gateway, and who may ask it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.terminal import console

app = typer.Typer()


keys = typer.Typer(no_args_is_help=True, help="API keys of the gateway.")
app.add_typer(keys, name="keys")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; anything but loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8000,
) -> None:
    """Serve the champion over an OpenAI-compatible API; a new champion is swapped in."""
    from flows.wiring.params import read_params
    from flows.wiring.serving import serve as serve_champion

    serve_champion(read_params(), host, port)


@app.command()
def stop() -> None:
    """End the gateway that the demo left up."""
    from flows.commands.demo import stop_gateway

    console.print("stopped" if stop_gateway() else "no gateway is up")


@keys.command("add")
def add_key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make a key and print it, once."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    print(ring.add_key(artifacts.KEYS, name))


@keys.command("list")
def list_keys() -> None:
    """Names of the keys."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    for key in ring.read_keys(artifacts.KEYS):
        print(f"{key.id}  {key.name}")


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose key.")]) -> None:
    """Take a key back; a running gateway follows."""
    from flows.wiring import artifacts
    from tasks.gateway import keys as ring

    ring.remove_key(artifacts.KEYS, name)
    if not ring.read_keys(artifacts.KEYS):
        console.print(f"no keys are left, so every request is refused; delete {artifacts.KEYS} to serve without keys")
