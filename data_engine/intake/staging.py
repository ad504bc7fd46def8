"""Pictures within reach of every machine: copied once into an object store when workers run elsewhere.

Where the store is a folder, workers read what the driver reads (the folder and the source lie on storage that all
machines mount). Where it is an object store, pictures that workers themselves took in stay where these found them;
others that are about to be asked are put under `pictures/sha256/AB/SHA256` first, a few at a time, so that the driver's
memory stays flat; workers read them there. Nothing that is already there is sent again.

Not covered: removing them (they are scratch: no version refers to them).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from data_engine.intake.image_places import ImagePlaces

if TYPE_CHECKING:
    from data_engine.runners import Ask
    from data_engine.step import StepContext
    from shared.images import ImageSource
    from shared.store import Store

SENDERS = 16
"""Pictures on their way at once: at most this many are in memory."""


class StoredImages:
    """An `ImageSource` over the pictures of a store, and those that `places` reaches."""

    def __init__(self, store: Store, places: ImagePlaces | None = None) -> None:
        self.store, self.places = store, places

    def get(self, sha256: str) -> bytes:
        """Original bytes of the picture; raises `NotInStoreError`."""
        if self.places is not None and self.places.reaches(sha256):
            return self.places.get(sha256)
        return self.store.get(picture_path(sha256))


def picture_path(sha256: str) -> str:
    """Where a picture lies in a store."""
    return f"pictures/sha256/{sha256[:2]}/{sha256}"


def within_reach(context: StepContext, images: ImageSource, asks: Iterable[Ask]) -> ImageSource:
    """`images` as the runner's workers can read them: unchanged, or copied to an object store first."""
    if context.runner.name != "ray" or context.store.is_folder:
        return images
    places = images if isinstance(images, ImagePlaces) else None
    wanted = sorted({sha256 for ask in asks for sha256 in ask.images if places is None or not places.reaches(sha256)})
    if not wanted:
        return images
    task = context.progress.task("images to the store", len(wanted), unit="images")
    there = {entry.path.rsplit("/", 1)[-1] for entry in context.store.list("pictures/sha256")}

    def send(sha256: str) -> None:
        if sha256 not in there:
            context.store.put_new(picture_path(sha256), images.get(sha256))
        task.advance()

    with ThreadPoolExecutor(max_workers=SENDERS) as senders:
        for _ in senders.map(send, wanted):
            pass
    task.done()
    return StoredImages(context.store, places)
