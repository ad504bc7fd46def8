"""The engines of this process: started at the first ask, kept for every later one that names the same checkpoint.

`open_engine(spec)` is all that steps, runners and the evaluation need. On a GPU one engine lives at a time (each takes
most of the memory); on a CPU one that writes and one that embeds.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.vlm.surroundings import cuda_seen

if TYPE_CHECKING:
    from shared.vlm.spec import EngineSpec, VisionLanguageEngine

_engines: dict[EngineSpec, VisionLanguageEngine] = {}
_lock = threading.RLock()
_starts: list[str] = []

# Fields that a running engine takes with each ask, or that say only how it is driven: they start no second engine.
_PER_ASK: dict[str, object] = {"min_pixels": None, "max_pixels": None, "batch_size": 1}


@contextmanager
def open_engine(spec: EngineSpec) -> Iterator[VisionLanguageEngine]:
    """Give the engine of `spec`, started now if it does not run yet; it keeps running afterwards.

    Raises:
        InfiMmrError: missing model, no safetensors, vllm not installed, endpoint down.
    """
    yield start_engine(spec)


def start_engine(spec: EngineSpec) -> VisionLanguageEngine:
    """Return the engine of `spec`, started at the first call. Asks of several threads are taken one at a time."""
    key = spec.model_copy(update=_PER_ASK)
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            for other in list(_engines):
                if spec.endpoint is None and (cuda_seen() or other.runner == spec.runner):
                    _engines.pop(other).close()
            engine = _engines[key] = _new(spec)
            _starts.append(spec.model)
        engine.spec = spec
        return engine


def restart_engine(spec: EngineSpec, smaller: EngineSpec) -> VisionLanguageEngine:
    """Close the engine of `spec` and start `smaller` (the same with a smaller batch)."""
    with _lock:
        engine = _engines.pop(spec.model_copy(update=_PER_ASK), None)
        if engine is not None:
            engine.close()
        return start_engine(smaller)


def _new(spec: EngineSpec) -> VisionLanguageEngine:
    if spec.endpoint is not None:
        from shared.vlm.endpoint import EndpointEngine

        return EndpointEngine(spec)
    if spec.runner == "pooling":
        from shared.vlm.pooling import PoolingEngine

        return PoolingEngine(spec)
    from shared.vlm.engine import VllmEngine

    return VllmEngine(spec)


def engine_starts() -> int:
    """How many engines this process has started; an endpoint's client counts too."""
    return len(_starts)


def close_engines() -> None:
    """Close every engine of this process and free its memory."""
    with _lock:
        while _engines:
            _engines.popitem()[1].close()


atexit.register(close_engines)
