"""``refrase-kimi models --live``: the catalogue beside what a host lists now. Facts age; a host's own list does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from refrase_integrations.cli.terminal import console, open_connection, print_json, print_text, table


class Row(NamedTuple):
    """One model of the host's list, or one that is missing there."""

    name: str
    """In the host's spelling."""
    model: str | None
    """Canonical id; None: the catalogue does not know it."""
    differs: str
    """What is not as the catalogue has it; empty: nothing."""


def compare(host: str | None, base_url: str | None, api_key_env: str | None, *, as_json: bool) -> int:
    """Print the comparison; return 0 where list and catalogue agree, else 1.

    Raises:
        ConfigurationError: there is no key, or the address is wrong.
        HostError: the host does not list its models.
    """
    connection = open_connection(host, base_url, api_key_env)
    rows = _rows(_listed(connection), connection.host.id)
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        title = f"{len(rows)} Kimi models at {connection.base_url}"
        console().print(table(title, ("listed as", "model", "differs"), rows))
        if not rows:
            print_text("The host lists no Kimi model.")
    return 1 if any(row.differs for row in rows) else 0


def _listed(connection: Any) -> list[Mapping[str, Any]]:
    import openai

    from refrase_integrations.client.failures import answered, typed
    from refrase_integrations.errors import HostError

    failure: HostError
    try:
        answer = connection.client().get("/models", cast_to=object)
        entries = answer.get("data") if isinstance(answer, Mapping) else None
        if isinstance(entries, list):
            return [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]
        failure = answered(404, answer, {}, None, connection)
    except openai.OpenAIError as error:
        failure = typed(error, {}, None, connection)
    except ValueError:
        failure = answered(None, {"message": "the host sent what is no JSON"}, {}, None, connection)
    raise failure  # out here, it does not carry the SDK's exception, which holds the key


def _rows(listed: list[Mapping[str, Any]], host: str) -> list[Row]:
    from refrase_integrations.kimi.catalogue import find_model, knows_model, models

    rows, there = [], set()
    for entry in listed:
        name = str(entry["id"])
        if not knows_model(name):
            if "kimi" in name.lower():
                rows.append(Row(name, None, "not in the catalogue"))
            continue
        model = find_model(name)
        there.add(model.id)
        served, window = model.hosts.get(host), entry.get("context_length")
        known = (served and served.window) or model.limits.window
        said = [
            "the catalogue has it as retired" if served and served.status == "retired" else "",
            f"window {window:,}, the catalogue has {known:,}" if isinstance(window, int) and window != known else "",
        ]
        rows.append(Row(name, model.id, "; ".join(filter(None, said))))
    missing = [model for model in models() if host in model.served_by() and model.id not in there]
    rows += [Row(model.hosts[host].names[0], model.id, "not listed by the host") for model in missing]
    return rows
