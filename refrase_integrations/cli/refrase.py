"""``refrase-kimi refrase``: a prompt file rewritten by a model, with proof that nothing was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refrase_integrations.cli.terminal import STDIN, error_console, open_connection, progress, read_file, write_file
from refrase_integrations.errors import AccessDenied, ConfigurationError, HostError, ModelNotFound, WrongKey

if TYPE_CHECKING:
    from refrase_integrations.client.refraser import Ask
    from refrase_integrations.kimi.prompt.rewrite import Refrased
    from refrase_integrations.kimi.wire import Message


def refrase(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The prompt; - is stdin.")],
    *,
    model: Annotated[str | None, typer.Option(help="Model that rewrites it; default: the package's.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of its host.")] = None,
    host: Annotated[str | None, typer.Option(help="A known host; default: as base_url tells, else moonshot.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the key; default: the host's.")
    ] = None,
    bound: Annotated[str | None, typer.Option("--tools", help="Names of tools bound beside the prompt: a,b.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Rewrite the file itself instead of printing.")] = False,
) -> None:
    """Rewrite a prompt for Kimi K2 with a model; where its rewrite loses anything, the prompt is only compacted.

    Every placeholder, number, name, address, tool, piece of code, quotation and prohibition has to survive. What was
    done is told on the error stream, with the tokens before and after.

    \b
    Examples:
      refrase-kimi refrase system.md > system.kimi.md
      refrase-kimi refrase system.md --write --host openrouter --model moonshotai/kimi-k2.6
      refrase-kimi refrase - --base-url http://localhost:8000/v1 --model moonshotai/Kimi-K2.6 < system.md
    """
    if write and file == STDIN:
        raise ConfigurationError("--write needs a file: from the standard input the prompt is printed")
    text = read_file(file)
    if not text.strip():
        raise ConfigurationError("there is nothing to rewrite: the prompt is empty")
    ask = _asking(model, host, base_url, api_key_env)
    done = _rewritten(text, ask, [name.strip() for name in bound.split(",")] if bound else [])
    now = done.text if done.text.endswith("\n") or not text.endswith("\n") else f"{done.text}\n"
    if not write:
        typer.echo(now, nl=False)
    elif now != text:
        write_file(file, now)
    why = f": {done.note}" if done.note else ""
    saved = f"{done.tokens_before} -> {done.tokens_after} tokens"
    error_console().print(f"{done.how}{why}; {saved}; the model was asked {done.calls} time(s)", markup=False)


def _rewritten(text: str, ask: Ask, tools: list[str]) -> Refrased:
    from refrase_integrations.client.refraser import PromptRefraser

    async def unused(_messages: list[Message]) -> str:
        raise NotImplementedError

    try:
        with progress() as bar:
            bar.add_task("Rewriting", total=None)
            return PromptRefraser(ask, unused, tools=tools).rewrite(text)
    except (WrongKey, AccessDenied, ModelNotFound):
        raise  # the user's to mend
    except HostError as error:
        return _compacted(text, f"the model could not be asked ({type(error).__name__}: {error.seen})")


def _compacted(text: str, note: str) -> Refrased:
    from refrase_integrations.kimi.prompt.compact import compact_prompt
    from refrase_integrations.kimi.prompt.rewrite import Refrased

    short = compact_prompt(text)
    before = short.tokens_before
    return Refrased(
        text=short.text,
        how="compacted" if short.removed else "unchanged",
        note=note,
        calls=0,
        tokens_before=before,
        tokens_after=before - short.tokens_saved,
    )


def _asking(model: str | None, host: str | None, base_url: str | None, api_key_env: str | None) -> Ask:
    from refrase_integrations.client.sdk import send
    from refrase_integrations.kimi.catalogue import DEFAULT_MODEL
    from refrase_integrations.kimi.request import build_call, dialect_of
    from refrase_integrations.kimi.settings import Practices
    from refrase_integrations.kimi.stream import fold
    from refrase_integrations.kimi.tokens import counter
    from refrase_integrations.kimi.turn import run

    connection = open_connection(host, base_url, api_key_env)
    settings = {"model": model or DEFAULT_MODEL, "practices": Practices(fresh_data="off", concise_prompt="off")}
    dialect, _ = dialect_of(settings, connection.host)

    def ask(messages: list[Message]) -> str:
        call = build_call(settings, messages, dialect, stream=False, count=counter())
        (reply,) = fold(run(call, lambda prepared: send(prepared, connection)))
        return reply.get("content", "")

    return ask
