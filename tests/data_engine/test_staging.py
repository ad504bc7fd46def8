"""Pictures reach the workers of a cluster: through the store where it is no folder."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from data_engine.intake.image_places import ImagePlaces, NewPlaces, PlaceFiles, write_places
from data_engine.intake.staging import StoredImages, picture_path, within_reach
from data_engine.runners import Ask
from shared.store import NotInStoreError, open_store


class Elsewhere:
    """Stands for the Ray runner: its workers are on other machines."""

    name = "ray"


class Bucket:
    """A store that says it is no folder."""

    is_folder = False

    def __init__(self, store):
        self.store = store
        self.sent = []

    def list(self, prefix):
        return self.store.list(prefix)

    def get(self, path):
        return self.store.get(path)

    def put_new(self, path, data):
        self.sent.append(path)
        return self.store.put_new(path, data)


@pytest.fixture
def world(step_world, tmp_path):
    pictures = step_world.Pictures()
    hashes = [pictures.add(step_world.drawing(seed)) for seed in range(5)]
    asks = [Ask(f"k{n}", "t", images=(hashes[n], hashes[0])) for n in range(4)]
    return step_world.context([], pictures=pictures), pictures, hashes, asks


def test_on_a_shared_folder_nothing_is_copied(world):
    context, pictures, _, asks = world
    assert within_reach(replace(context, runner=Elsewhere()), pictures, asks) is pictures
    assert list(context.store.list("pictures")) == []


def test_the_local_runner_reads_where_the_pictures_are(world):
    context, pictures, _, asks = world
    assert within_reach(replace(context, store=Bucket(context.store)), pictures, asks) is pictures


def test_into_an_object_store_each_picture_that_is_asked_goes_once(world):
    context, pictures, hashes, asks = world
    bucket = Bucket(context.store)
    there = replace(context, runner=Elsewhere(), store=bucket)
    reached = within_reach(there, pictures, asks)
    assert sorted(bucket.sent) == sorted(picture_path(sha256) for sha256 in hashes[:4])
    assert reached.get(hashes[2]) == pictures.get(hashes[2])
    within_reach(there, pictures, [*asks, Ask("k4", "t", images=(hashes[4],))])
    assert bucket.sent[4:] == [picture_path(hashes[4])]


def test_pictures_that_workers_took_in_stay_where_they_are_and_only_others_go_into_an_object_store(world, tmp_path):
    context, pictures, hashes, asks = world
    new = NewPlaces(open_store(tmp_path / "scratch"), 0)
    for place, sha256 in enumerate(hashes[1:]):
        (tmp_path / f"{place}.png").write_bytes(pictures.get(sha256))
        new.add_file(sha256, tmp_path / f"{place}.png", len(pictures.get(sha256)))
    told = write_places(open_store(tmp_path / "scratch"), 0, new.taken({}))
    bucket = Bucket(context.store)
    there = replace(context, runner=Elsewhere(), store=bucket)
    for shared in (True, False):
        places = ImagePlaces(tmp_path / "spool")
        places.looks_in(PlaceFiles(open_store(tmp_path / "scratch"), 1, told["pictures"], shared=shared))
        places.add_bytes(hashes[0], pictures.get(hashes[0]))
        reached = within_reach(there, places, asks)
        assert bucket.sent == [picture_path(hashes[0])] if shared else len(bucket.sent) == 4
        assert [reached.get(sha256) for sha256 in hashes[:4]] == [pictures.get(sha256) for sha256 in hashes[:4]]
    places.looks_in(PlaceFiles(open_store(tmp_path / "scratch"), 1, told["pictures"], shared=True))
    assert within_reach(there, places, [Ask("k", "t", images=(hashes[1],))]) is places


def test_stored_pictures_travel_as_an_address(tmp_path):
    store = open_store(tmp_path)
    store.put_new(picture_path("ab" * 32), b"picture")
    again = pickle.loads(pickle.dumps(StoredImages(store)))  # noqa: S301 - our own bytes
    assert again.get("ab" * 32) == b"picture"
    with pytest.raises(NotInStoreError):
        again.get("cd" * 32)
