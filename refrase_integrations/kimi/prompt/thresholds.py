"""The figures of the prompt engine, each with its unit and its reason."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PromptThresholds(BaseModel):
    """When a prompt counts as long, rule-heavy or shouting, and what is too little to mention.

    No document of Kimi's gives figures; these are ours, set so that Moonshot's own published agent prompt and the
    default prompts of LangChain and LlamaIndex pass.

    ```python
    from refrase_integrations import Practices
    Practices(prompt_thresholds={"long": 6000})
    ```
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    long: int = Field(default=4_000, ge=1)
    """Tokens of a prompt that is not yet long. Moonshot's own command-line agent runs on 2,930 (kimi-cli 1.52.0,
    ``agents/default/system.md``); a third more is left for a task of your own."""
    rules: int = Field(default=60, ge=1)
    """Sentences that ask or forbid, examples aside, in a prompt that is not yet rule-heavy. Moonshot's has 53."""
    shouts: int = Field(default=6, ge=1)
    """Words in capitals and runs of exclamation marks that are no shouting yet, whatever the length: a few MUSTs mark
    what matters."""
    shouts_per_thousand: float = Field(default=15.0, gt=0)
    """The same for each 1,000 tokens: beyond it, one sentence in four shouts, and none stands out. Moonshot's has 3.4,
    LlamaIndex's ReAct header 13."""
    examples: float = Field(default=3.0, gt=0)
    """How many times as long as the rest of the prompt its examples may be. Examples steer more than words do: at
    three times the length the task is an aside."""
    examples_tokens: int = Field(default=400, ge=1)
    """Tokens of examples that are never too many: two or three short ones."""
    short: int = Field(default=150, ge=0)
    """Tokens of a system prompt that the practice concise-prompt passes over: there is nothing to gain."""
    saving: int = Field(default=20, ge=1)
    """Tokens that compaction has to save before the practice concise-prompt mentions or applies it: the line in the
    report is as long, and a changed prompt costs its place in the host's cache once."""


DEFAULTS = PromptThresholds()
