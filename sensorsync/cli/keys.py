"""The `keys` commands on the command line, for the keys that sign and encrypt messages."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorsync.cli.wiring import Json, app, configure_initial_logging, run

keys_app = typer.Typer(no_args_is_help=True, help="Make keys of messages, and look at them.")
app.add_typer(keys_app, name="keys")


@keys_app.command("generate")
def keys_generate(
    context: typer.Context,
    key_id: Annotated[str, typer.Option("--id", help="The key's id (kid) in what it makes.", metavar="ID")],
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="HS256, RS256, PS256, EdDSA or A256GCM.", metavar="ALGORITHM")
    ] = "HS256",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File of the secret key, or a folder; by default here, named by the id.", metavar="PATH"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a key, in files that only you can read. The configuration is not changed; what to write there is printed."""
    from sensorsync.commands import keys
    from sensorsync.console.execution import execute

    configure_initial_logging(context.obj)
    raise typer.Exit(execute("keys generate", lambda: keys.generate(key_id, algorithm, out), as_json=json))


@keys_app.command("list")
def keys_list(context: typer.Context, json: Json = False) -> None:
    """List the configured keys. Id, algorithm, use, where from, fingerprint; nothing secret is printed."""
    from sensorsync.commands import keys

    run(context, "keys list", keys.show, as_json=json)


@keys_app.command("show-public")
def keys_show_public(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a key in security.keys.")],
    json: Json = False,
) -> None:
    """Print the public half of a configured key. In PEM, for those who verify."""
    from sensorsync.commands import keys

    run(context, "keys show-public", lambda loaded: keys.show_public(loaded, key_id), as_json=json)
