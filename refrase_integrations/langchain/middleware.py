"""`KimiMiddleware`: the practices inside `create_agent` and deepagents, whatever model the agent was given."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    OmitFromInput,
    hook_config,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langgraph import errors as langgraph_errors
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command

from refrase_integrations.client.budgets import Budget
from refrase_integrations.errors import ConfigurationError, RefraseWarning, StructuredOutputError
from refrase_integrations.kimi.announcements import Language, announced, is_nudge, nudge
from refrase_integrations.kimi.catalogue import find_host, knows_model
from refrase_integrations.kimi.inputs import instance, kind_of, whole
from refrase_integrations.kimi.settings import Practices
from refrase_integrations.langchain.base import PracticedChatModel
from refrase_integrations.langchain.messages import error_of
from refrase_integrations.langchain.vendors import model_name_of
from refrase_integrations.langchain.wrapper import with_kimi_practices

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ToolCallRequest

_log = logging.getLogger("refrase_integrations")

_BENEATH = Practices(loop_guard="apply", undeclared_calls="keep")
"""The middleware's own defaults: the lowest layer, so that model and user override them. It answers undeclared calls
itself, and a human may mend one before."""
_JUDGED = Practices(forced_choice="advise").over(_BENEATH)
"""The same where a structured response is wanted: the middleware judges whether it came."""
_CORRECTIONS = 2  # replies of one turn that only held unreadable calls and are sent back; then the run ends
_passed_over: set[str] = set()  # models that were left alone, and said so


def _latest(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return new


class KimiState(AgentState[Any]):
    """What the middleware adds to the agent's state."""

    # With a reducer: subagents that end in one step hand their state up together.
    refrase_report: NotRequired[Annotated[dict[str, Any], OmitFromInput, _latest]]
    """The report of the last model call, as in ``message.response_metadata["refrase"]``."""


class KimiMiddleware(AgentMiddleware[KimiState, Any]):
    """Kimi's documented practices in an agent of `create_agent` or deepagents.

    ```python
    from langchain.agents import create_agent
    from refrase_integrations.langchain import KimiMiddleware

    agent = create_agent(model, tools, middleware=[KimiMiddleware()])
    ```

    - Each model call goes through the practices, streams too. A model that the catalogue does not know is left alone:
      a fallback or a subagent may be another vendor's.
    - The same tool call over and over gets reminders, and before the twelfth the run ends with a message that says why
      (``practices={"loop_guard": "error"}`` raises `LoopStopped` instead).
    - A call that cannot be used is never run: the model is told what to correct.
    - ``response_format`` works without a forced tool choice. An answer that still has not its form is a
      `StructuredOutputError`, never a silent None.
    - ``state["refrase_report"]`` tells what was done in the last model call, why, and by which source.

    It belongs at the end of the list, inside middleware that chooses the model (fallback, routing). deepagents gives
    its subagents a stack of their own: name it there too (``"middleware": [KimiMiddleware()]``), or give the agent a
    model that carries the practices itself (`ChatKimi`, `with_kimi_practices`).

    Args:
        host: id of the host that serves the model; None: read from the model.
        model_name: the model's name, where it does not tell it itself; then every model of the agent counts as it,
            less those that carry the practices themselves.
        practices: `Practices`, a dict such as ``{"system_prompt": "off"}``, or "off". They win over the model's own.
        nudge: how often in one turn a model that announces an action and stops is asked to take it.
        handle_tool_errors: whether exceptions of tools become error messages for the model (True, or the types that
            do), their text included; False: they end the run, or go to `ToolRetryMiddleware` and `ToolErrorMiddleware`.
        budget: what the agent's Kimi models may spend, in all and by each thread; then the run ends with
            `BudgetExceeded`. On top of the models' own budgets.

    Raises:
        ConfigurationError: an argument is unknown or does not fit.
    """

    state_schema = KimiState

    def __init__(
        self,
        host: str | None = None,
        model_name: str | None = None,
        practices: Practices | Mapping[str, Any] | str | None = None,
        *,
        nudge: int = 0,
        handle_tool_errors: bool | type[Exception] | tuple[type[Exception], ...] = False,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        if host is not None:
            find_host(host)
        whole(nudge, "nudge (how often a model may be asked in one turn)", 0)
        self.tools = []
        instance(model_name, (str, type(None)), "model_name", "a text or None")
        self.host, self.model_name, self.nudge = host, model_name, nudge
        self.practices = Practices.of(practices)
        self.budget: AbstractContextManager[Any] = nullcontext() if budget is None else budget
        self.handled = _handled(handle_tool_errors)

    # -- the model call ----------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Let the model of this call be one that keeps the practices."""
        practised = self._practised(request)
        if practised is None:
            return handler(request)
        with self.budget:
            response = handler(practised)
        return self._judged(practised, response)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The async twin of `wrap_model_call`."""
        practised = self._practised(request)
        if practised is None:
            return await handler(request)
        with self.budget:
            response = await handler(practised)
        return self._judged(practised, response)

    def _practised(self, request: ModelRequest[Any]) -> ModelRequest[Any] | None:
        model: Any = request.model
        settings = request.model_settings
        while isinstance(model, RunnableBindingBase):  # create_agent would lose what is bound
            bound = {key: value for key, value in model.kwargs.items() if key not in ("tools", "tool_choice")}
            settings, model = {**bound, **settings}, model.bound
        first = model.runnable if isinstance(model, RunnableWithFallbacks) else model
        if not self._knows(first):
            return None
        beneath = _BENEATH if request.response_format is None else _JUDGED
        practices = self.practices.over(Practices.of(getattr(first, "practices", None)), beneath)
        told = isinstance(model, PracticedChatModel)  # by itself
        name, host = (None, None) if told else (self.model_name, self.host)
        practised = with_kimi_practices(model, name, host, practices)
        return request.override(model=practised, model_settings=settings)

    def _knows(self, model: Any) -> bool:
        if self.model_name or isinstance(model, PracticedChatModel):
            return True
        name = model_name_of(model) if isinstance(model, BaseChatModel) else None
        if name is not None and knows_model(name):
            return True
        told = name or type(model).__name__
        if told not in _passed_over:
            _passed_over.add(told)
            _log.warning(
                "KimiMiddleware: the model %r is not in the catalogue and is left as it is. If it is a Kimi model: "
                "KimiMiddleware(model_name=...)",
                told,
            )
        return False

    def _judged(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> ModelResponse[Any]:
        reply = next((message for message in response.result if isinstance(message, AIMessage)), None)
        report = None if reply is None else _report(reply)
        if reply is None or report is None:
            if reply is not None and reply.response_metadata.get("model_name"):
                warnings.warn(
                    "KimiMiddleware: another middleware replaced the model behind its back. It belongs at the end of "
                    "the list, inside fallback and routing middleware.",
                    RefraseWarning,
                    stacklevel=2,
                )
            return response
        if request.response_format is not None and response.structured_response is None:
            why = self._ends_with(reply, request.messages)
            if why is not None:
                raise StructuredOutputError(f"response_format was asked for, and {why}.")
        return response

    def _ends_with(self, reply: AIMessage, before: Sequence[AnyMessage]) -> str | None:
        """Return how the run ends with a reply that holds no structured response; None where it goes on."""
        if reply.tool_calls:
            return None
        if reply.invalid_tool_calls:
            return _given_up(reply, before)
        if self._announcement(reply, before) is not None:
            return None
        stopped = _healed(_report(reply) or {}, "loop-guard")
        return "the loop guard stopped the model" if stopped else "the model answered in text, also when asked again"

    # -- after it ----------------------------------------------------------------------------------------

    def after_model(self, state: KimiState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Put the report in the state, and answer unreadable calls beside good ones, which run meanwhile."""
        reply = next((message for message in reversed(state["messages"]) if isinstance(message, AIMessage)), None)
        report = None if reply is None else _report(reply)
        if reply is None or report is None:
            return None
        if reply.tool_calls and reply.invalid_tool_calls and state["messages"][-1] is reply:
            return {"refrase_report": report, "messages": _told(reply)}
        return {"refrase_report": report}

    async def aafter_model(self, state: KimiState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """The async twin of `after_model`."""
        return self.after_model(state, runtime)

    @hook_config(can_jump_to=["model"])
    def after_agent(self, state: KimiState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Give the model the next word where the run would end on unreadable calls, or on an announcement.

        Here and not after the model: a jump from there would leave out what other middleware does then, such as
        counting the calls.
        """
        *before, reply = state["messages"]
        report = _report(reply) if isinstance(reply, AIMessage) else None
        if not isinstance(reply, AIMessage) or report is None:
            return None
        if reply.invalid_tool_calls:
            why = _given_up(reply, before)
            if why is None:
                return {"messages": _told(reply), "jump_to": "model"}
            return {"messages": [*_told(reply), AIMessage(f"Stopped: {why}.")]}
        language = self._announcement(reply, before) if _is_final(reply) else None
        if language is None:
            return None
        said = {
            "practice": "nudge",
            "action": "replace",
            "detail": "an action was announced and no tool was called: asked to take it",
            "source": "MoonshotAI/Kimi-K2#81",
        }
        report = {**report, "healed": [*report.get("healed", ()), said]}
        return {"messages": [HumanMessage(nudge(language))], "refrase_report": report, "jump_to": "model"}

    @hook_config(can_jump_to=["model"])
    async def aafter_agent(self, state: KimiState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """The async twin of `after_agent`."""
        return self.after_agent(state, runtime)

    def _announcement(self, reply: AIMessage, before: Sequence[BaseMessage]) -> Language | None:
        """Return the language of an announcement that may be followed up."""
        nudged = sum(isinstance(message, HumanMessage) and is_nudge(message.text) for message in _this_turn(before))
        return announced(reply.text) if nudged < self.nudge else None

    # -- the tool call -----------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Answer a call that cannot be used instead of the tool, and exceptions where asked to."""
        refused = _refused(request)
        if refused is not None:
            return refused
        try:
            return handler(request)
        except GraphBubbleUp:
            raise
        except self.handled as error:
            return _failed(request, error)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """The async twin of `wrap_tool_call`."""
        refused = _refused(request)
        if refused is not None:
            return refused
        try:
            return await handler(request)
        except GraphBubbleUp:
            raise
        except self.handled as error:
            return _failed(request, error)


def _handled(errors: bool | type[Exception] | tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    if isinstance(errors, bool):
        return (Exception,) if errors else ()
    types = errors if isinstance(errors, tuple) else (errors,)
    if not all(isinstance(one, type) and issubclass(one, Exception) for one in types):
        raise ConfigurationError(f"handle_tool_errors is True, False or types of exceptions, not {kind_of(errors)}")
    return types


def _report(reply: AIMessage) -> dict[str, Any] | None:
    """Return the report of a reply that came through the practices."""
    report: dict[str, Any] | None = reply.response_metadata.get("refrase")
    return report


def _healed(report: dict[str, Any], practice: str) -> bool:
    return any(line.get("practice") == practice for line in report.get("healed", ()))


def _is_final(reply: AIMessage) -> bool:
    return not reply.tool_calls and not reply.invalid_tool_calls


def _this_turn(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """Return what came after the user's last message; our own lines are not the user's."""
    users = (
        place
        for place, message in enumerate(messages)
        if isinstance(message, HumanMessage) and not is_nudge(message.text)
    )
    return messages[max(users, default=-1) + 1 :]


def _told(reply: AIMessage) -> list[ToolMessage]:
    """Return an answer to each unreadable call: what was wrong with it."""
    return [
        _answer(call, str(call.get("error") or "its arguments are no JSON object"))
        for call in reply.invalid_tool_calls
        if call.get("id")
    ]


def _given_up(reply: AIMessage, before: Sequence[AnyMessage]) -> str | None:
    """Return why unreadable calls are not sent back any more; None where they are."""
    lost = [message for message in _this_turn(before) if isinstance(message, AIMessage) and message.invalid_tool_calls]
    if len(lost) < _CORRECTIONS:
        return None
    names = ", ".join(sorted({str(call.get("name")) for call in reply.invalid_tool_calls}))
    return f"the arguments of the call to {names} could not be read, {len(lost) + 1} times in this turn"


def _refused(request: ToolCallRequest) -> ToolMessage | None:
    """Return the answer to a call that cannot be used; None where it can, or where somebody has mended it since."""
    call = request.tool_call
    messages = request.state["messages"] if isinstance(request.state, Mapping) else request.state.messages
    for message in reversed(messages):
        made = message.tool_calls if isinstance(message, AIMessage) else ()
        if any(one["id"] == call["id"] and one["name"] == call["name"] for one in made):
            error = error_of(message, call)
            return None if error is None else _answer(call, error)
    return None


def _failed(request: ToolCallRequest, error: Exception) -> ToolMessage:
    is_invalid_resume = getattr(langgraph_errors, "is_invalid_resume", None)
    if is_invalid_resume is not None and is_invalid_resume(error):  # a human's answer, not the model's
        raise error
    return _answer(request.tool_call, f"the tool failed with {type(error).__name__}: {error}")


def _answer(call: Mapping[str, Any], error: str) -> ToolMessage:
    text = f"Error: {error.rstrip('.')}. Correct the call, or go on without it."
    return ToolMessage(text, tool_call_id=call["id"] or "", name=call.get("name") or "unknown", status="error")
