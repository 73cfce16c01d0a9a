"""Many rows under a budget: the run ends before the request that could pass it, and goes on where it ended.

Runs against a local simulator of Kimi's API; with MOONSHOT_API_KEY set, against Moonshot's (a tenth of a cent).

    pip install "refrase-integrations[langchain,simulator,batch]"
    python examples/07_many_rows.py
"""

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

from refrase_integrations.batch import Budget, Limits, run_batch
from refrase_integrations.errors import BudgetExceeded
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator

WORDS = ("rain", "river", "harbour", "lantern", "orchard", "granite", "thunder", "meadow")


def main() -> None:
    key = os.environ.get("MOONSHOT_API_KEY")
    prompts = [f"Translate into French, one word: {word}" for word in WORDS]
    # A request counts with its whole output limit until its reply is there: a low one lets more run at once.
    settings = {"model": "kimi-k2.6", "thinking": False, "max_tokens": 40, "limits": Limits.of_tier(1)}
    with nullcontext() if key else KimiSimulator() as simulator, tempfile.TemporaryDirectory() as folder:
        local = {"host": "moonshot", "base_url": simulator.base_url, "api_key": "none"} if simulator else {}
        model, path = ChatKimi(**settings, **local), Path(folder) / "words.jsonl"
        try:
            run_batch(model, prompts, path=path, budget=Budget(usd=0.0004), concurrency=2)
        except BudgetExceeded as error:
            print(f"{error}\n  {error.__notes__[0]}")
        rows = run_batch(model, prompts, path=path, budget=Budget(usd=0.01))
        for row in rows:
            print(f"{row.key} {WORDS[row.index]}: {row.result.text}", "(from the first run)" if row.resumed else "")
        print(rows)


if __name__ == "__main__":
    main()
