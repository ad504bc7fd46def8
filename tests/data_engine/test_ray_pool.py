"""What a pool of actors asks again, and what it says of a cluster without room for one."""

from __future__ import annotations

import pyarrow as pa

from data_engine.runners.ray_pool import LOSSES, Batch, lacking


def test_a_row_is_given_up_only_after_it_was_alone_with_every_worker_that_ended():
    batch = Batch(pa.table({"row": list(range(2048))}))
    sizes = []
    while again := batch.lost(64):
        assert all(one.suspected for one in again)
        batch = again[0]
        sizes.append((len(again), batch.table.num_rows))
    assert sizes == [(32, 64), (64, 1), *[(1, 1)] * (LOSSES - 1)]


def test_a_worker_larger_than_every_node_is_told_of():
    nodes = [{"CPU": 8.0, "GPU": 4.0}, {"CPU": 16.0}]
    assert lacking({"CPU": 8, "GPU": 4}, nodes) == ""
    assert lacking({}, nodes) == ""
    told = lacking({"CPU": 8, "GPU": 8}, nodes)
    assert told.endswith("it takes 8 CPU and 8 GPU, single nodes have 16 CPU and 0 GPU or 8 CPU and 4 GPU")
