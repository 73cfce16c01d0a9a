"""Many calls: what an account allows and a budget leaves."""

from __future__ import annotations

from refrase_integrations.client.budgets import Budget, Spent
from refrase_integrations.client.limits import Clock, Limiter, Limits

__all__ = ["Budget", "Clock", "Limiter", "Limits", "Spent"]
