"""Small clusters of several Ray nodes on this machine, for measurements and for the tests of flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = {"num_cpus": 2, "object_store_memory": 100 * 2**20}


def start_cluster(**more: Any) -> Any:
    """A `ray.cluster_utils.Cluster` of one node, the head; `more` of its arguments."""
    from ray.cluster_utils import Cluster

    return _patiently(lambda: Cluster(initialize_head=True, head_node_args={**NODE, **more}))


def add_node(cluster: Any, **more: Any) -> Any:
    """One more node; `more` of its arguments."""
    return _patiently(lambda: cluster.add_node(**{**NODE, **more}))


def _patiently(start: Callable[[], Any]) -> Any:
    """On a busy machine a node may miss Ray's fixed deadline of 30 s, so it is tried up to four times."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()
