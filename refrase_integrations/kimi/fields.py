"""Names of what a model is told: by its fields, and by the arguments of a call."""

from __future__ import annotations

MODEL_FIELDS = (
    "model", "thinking", "reasoning_effort", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed",
    "stop", "max_tokens", "timeout", "deadline", "stall_timeout", "stream_usage", "continue_on_length",
    "live_tools",
)  # fmt: skip
"""What a model has a field for and a call may override."""

CALL_FIELDS = frozenset(MODEL_FIELDS) | {
    "practices", "extra_body", "tools", "tool_choice", "strict", "parallel_tool_calls", "response_format",
    "max_completion_tokens", "prompt_cache_key", "safety_identifier", "user", "logprobs", "top_logprobs", "logit_bias",
}  # fmt: skip
"""Every argument that a call takes, whatever the framework."""
