"""Many calls: what an account allows, what a budget leaves, and rows that are answered once."""

from __future__ import annotations

from refrase_integrations.batch.runs import BatchResult, Failure, Row, arun_batch, run_batch
from refrase_integrations.client.budgets import Budget, Spent
from refrase_integrations.client.limits import Clock, Limiter, Limits

__all__ = [
    "BatchResult",
    "Budget",
    "Clock",
    "Failure",
    "Limiter",
    "Limits",
    "Row",
    "Spent",
    "arun_batch",
    "run_batch",
]
