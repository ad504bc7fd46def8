"""Ask a vision-language model: vLLM in this process, or any OpenAI-compatible endpoint.

Input: an `EngineSpec` and conversations with image bytes. Output: answers (text, tokens, finish reason) or
L2-normalised embeddings. One engine is started per spec and process, at the first ask, and serves every later one.
Not covered: what is asked and where answers are kept (steps, evaluation), several machines (data_engine/runners).
"""

from shared.vlm.conversation import Conversation, build_conversation
from shared.vlm.room import close_engines, open_engine, start_engine
from shared.vlm.spec import Answer, EngineSpec, Sampling, VisionLanguageEngine

__all__ = [
    "Answer",
    "Conversation",
    "EngineSpec",
    "Sampling",
    "VisionLanguageEngine",
    "build_conversation",
    "close_engines",
    "open_engine",
    "start_engine",
]
