"""``refrase-kimi explain``: what a provider's error means, or why a reply cannot be used, and the request repaired."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from refrase_integrations.cli.terminal import AsJson, print_json, print_text, read_file
from refrase_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from refrase_integrations.client.explanations import Cause, Explanation


def explain(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="An error as printed, a request body, a reply or a stream; - is stdin."),
    ],
    *,
    model: Annotated[str | None, typer.Option(help="Who was asked, where no request says so.")] = None,
    host: Annotated[str | None, typer.Option(help="Where; default: as the model's name tells, else moonshot.")] = None,
    repaired: Annotated[bool, typer.Option("--repaired", help="Print the repaired request alone, to send it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain a provider's error, a request that fails or a reply that cannot be used: cause, fix, repaired request.

    Give what you have, in any order: the more, the surer. Nothing is sent anywhere. Ends with status 1 where
    nothing was recognised.

    \b
    Examples:
      echo "400 invalid temperature: only 1 is allowed for this model" | refrase-kimi explain -
      refrase-kimi explain request.json error.txt
      refrase-kimi explain request.json stream.sse --host vllm
      refrase-kimi explain request.json --repaired > repaired.json
    """
    from refrase_integrations.client.explanations import explain as find_out
    from refrase_integrations.client.explanations import read_case

    texts = [read_file(file) for file in files]
    if not any(text.strip() for text in texts):
        raise ConfigurationError("there is nothing to explain: the input is empty")
    found = find_out(read_case(texts), model=model, host=host)
    if repaired:
        if found.repaired is None:
            raise ConfigurationError(found.note or "no request body was given, so there is none to repair")
        print_json(found.repaired)
    elif as_json:
        print_json(asdict(found))
    else:
        _print(found)
    raise typer.Exit(0 if found.causes else 1)


def _print(found: Explanation) -> None:
    print_text(f"{found.model} on {found.host}", style="dim")
    if found.error:
        print_text(f"\nThe host said: {found.error}")
    if not found.causes:
        print_text(
            "\nNothing here is known to go wrong. With the request, the reply and the error there is more to see."
        )
    for number, cause in enumerate(found.causes):
        _print_cause(cause, first=number == 0)
    if found.healed is not None:
        print_text("\nThe reply, healed", style="bold cyan")
        print_json(found.healed)
    if found.note:
        print_text(f"\nThe request cannot be repaired: {found.note}", style="yellow")
    if found.repaired is not None:
        print_text("\nThe request, repaired", style="bold cyan")
        for change in found.changes:
            print_text(f"  {change}")
        print_json(found.repaired)


def _print_cause(cause: Cause, *, first: bool) -> None:
    print_text(f"\n{'Cause' if first else 'Also'}: {cause.title} ({cause.id})", style="bold" if first else "")
    if first:
        print_text(cause.cause)
    print_text(f"Fix: {cause.fix}")
    if cause.practice:
        print_text(f"Practice: {cause.practice}. Reported: {cause.source}", style="dim")
