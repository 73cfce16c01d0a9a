"""``refrase-kimi models`` and ``refrase-kimi hosts``: the catalogue, with sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refrase_integrations.cli.terminal import AsJson, console, print_json, print_text, table

if TYPE_CHECKING:
    from refrase_integrations.kimi.catalogue.profile import Facts, HostProfile, ModelProfile


def models(
    name: Annotated[str | None, typer.Argument(help="One model, in any host's spelling: all that is known.")] = None,
    *,
    host: Annotated[str | None, typer.Option(help="Only what this host serves, at its prices.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Compare with what the host itself lists now.")] = False,
    base_url: Annotated[str | None, typer.Option(help="With --live: the host's address.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --live: environment variable that holds the key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List Kimi models: window, output limit, thinking, price, where they are served.

    With --live it ends with status 1 where the catalogue and the host's own list differ.

    \b
    Examples:
      refrase-kimi models
      refrase-kimi models moonshotai/kimi-k2-0905
      refrase-kimi models --host openrouter --json
      refrase-kimi models --live --host moonshot
    """
    from refrase_integrations.errors import CatalogueError
    from refrase_integrations.kimi.catalogue import DEFAULT_HOST, find_host, find_model, knows_model
    from refrase_integrations.kimi.catalogue import models as known

    if live:
        from refrase_integrations.cli.live import compare

        raise typer.Exit(compare(host, base_url, api_key_env, as_json=as_json))
    if name is not None:
        if not knows_model(name):
            raise CatalogueError(f"Unknown model {name!r}. Known: {', '.join(model.id for model in known())}.")
        _show(find_model(name), as_json=as_json)
        return
    where = find_host(host).id if host else DEFAULT_HOST
    chosen = [model for model in known() if host is None or where in model.served_by()]
    if as_json:
        print_json([model.model_dump(exclude_unset=True) for model in chosen])
        return
    rows = []
    for model in chosen:
        price, served = model.price(where), model.hosts.get(where)
        rows.append(
            (
                model.id,
                model.thinking.mode,
                f"{model.limits.window:,}",
                f"{model.limits.output_max:,}",
                "yes" if model.modalities.image else "",
                f"{price.input:g} / {price.output:g}" if price else "",
                _status(served.status, served.until) if served else "not served",
                ", ".join(model.served_by()),
            )
        )
    names = ("model", "thinking", "window", "output", "images", "USD in / out", f"on {where}", "served by")
    console().print(table(f"{len(rows)} models; prices per million tokens on {where}", names, rows))
    print_text("Open weights also run on your own servers: vllm, sglang, llamacpp. One model's facts: models NAME")


def hosts(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="One host: all that is known.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List hosts: address, key, how thinking is switched, where reasoning comes back, what tool_choice may say.

    \b
    Examples:
      refrase-kimi hosts
      refrase-kimi hosts vllm
      refrase-kimi hosts --json
    """
    from refrase_integrations.kimi.catalogue import find_host
    from refrase_integrations.kimi.catalogue import hosts as known

    if name is not None:
        _show(find_host(name), as_json=as_json)
        return
    if as_json:
        print_json([host.model_dump(exclude_unset=True) for host in known()])
        return
    rows = [
        (
            host.id,
            host.endpoint.protocol,
            host.endpoint.base_url or ("your own server" if host.self_hosted else "given by you"),
            host.endpoint.key_env[0] if host.endpoint.key_env else ("none" if host.endpoint.keyless else ""),
            host.messages.reasoning_out or "none",
            ", ".join(_leaves(host.thinking.off)) or "no switch known",
            host.tools.schema_flavour,
        )
        for host in known()
    ]
    names = ("host", "protocol", "base URL", "key from", "reasoning field", "thinking off by", "schemas")
    console().print(table(f"{len(rows)} hosts", names, rows))
    print_text("One host's facts: hosts ID. A host of your own: a TOML file named in REFRASE_CATALOG.")


def _status(status: str, until: Any) -> str:
    return status if until is None else f"{status} until {until}" if status == "live" else f"{status} {until}"


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    """Yield ``a.b=1`` for every value in nested tables."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif value not in (None, "", (), [], {}):
        several = sorted(value) if isinstance(value, (set, frozenset)) else value
        shown = ", ".join(map(str, several)) if isinstance(several, (list, tuple)) else value
        yield f"{path}={str(shown).lower() if isinstance(shown, bool) else shown}"


def _show(profile: ModelProfile | HostProfile, *, as_json: bool) -> None:
    """Print every fact group with its values, its note and its sources."""
    facts = profile.model_dump(exclude_unset=True)
    if as_json:
        print_json(facts)
        return
    print_text(f"{profile.id}: {profile.name}", style="bold")
    for key, group in facts.items():
        if key == "hosts":
            for host, served in group.items():
                _print_group(f"on {host}", served)
        elif isinstance(group, (list, tuple)):
            for member in group:
                _print_group(key, member)
        elif key not in ("id", "name", "known"):
            _print_group(key, group)


def _print_group(title: str, group: Facts | Any) -> None:
    if not isinstance(group, dict):
        print_text(f"\n{title}: {str(group).lower() if isinstance(group, bool) else group}")
        return
    print_text(f"\n{title}", style="bold cyan")
    for line in _leaves({key: value for key, value in group.items() if key not in ("source", "note")}):
        print_text(f"  {line.replace('=', ' = ', 1)}")
    if group.get("note"):
        print_text(f"  {group['note']}", style="italic")
    for source in group.get("source", ()):
        stand = f", {source['as_of']}" if source.get("as_of") else ""
        print_text(f"  source: {source['address']} (grade {source.get('grade', 'C')}{stand})", style="dim")
