"""A problem's pictures in Ray's shared memory: who trains on them reads them there, who passes them on does not.

OpenRLHF's collecting process hands what the processor made of pictures from the rollout actors to policy and reference,
three times a step, and never looks at it. Values in its messages are copied into shared memory anew each time, and
touched by the collecting process; a reference is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class SharedPictures(Mapping[str, Any]):
    """Names and tensors of one problem's pictures, fetched when they are first looked at.

    Read by `openrlhf.utils.vlm_utils.merge_mm_train_inputs`, as the plain dictionary that it stands for.
    """

    def __init__(self, reference: Any) -> None:
        """`reference` is Ray's, to a dictionary of tensors."""
        self.reference = reference
        self._tensors: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """The reference travels alone."""
        return SharedPictures, (self.reference,)

    def _fetched(self) -> dict[str, Any]:
        import ray

        if self._tensors is None:
            self._tensors = ray.get(self.reference)
        return self._tensors

    def __getitem__(self, name: str) -> Any:
        return self._fetched()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fetched())

    def __len__(self) -> int:
        return len(self._fetched())

    def __bool__(self) -> bool:  # asked by who only passes it on
        return True


def share(tensors: dict[str, Any]) -> Mapping[str, Any]:
    """`tensors` in shared memory until nobody refers to them; as they are where Ray does not run."""
    import ray

    return SharedPictures(ray.put(tensors)) if ray.is_initialized() else tensors
