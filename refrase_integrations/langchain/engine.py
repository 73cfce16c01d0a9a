"""What a call of a model goes through. Imported with the first call: importing a model's class is cheap without."""

from __future__ import annotations

from refrase_integrations.kimi.request import build_call
from refrase_integrations.kimi.stream import fold
from refrase_integrations.kimi.turn import arun, run
from refrase_integrations.langchain.messages import Decoder, encode
from refrase_integrations.langchain.structured import response_format

__all__ = ["Decoder", "arun", "build_call", "encode", "fold", "response_format", "run"]
