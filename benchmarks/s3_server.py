"""An S3 server on loopback (moto, in memory) for tests and benchmarks, with conditional puts that are truly atomic."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "team-bucket"


@contextmanager
def s3_server() -> Iterator[str]:
    """Start the server, create a bucket, point the environment at it; yields ``s3://team-bucket``.

    moto looks whether a key exists and stores it in two steps; S3 does both at once. A lock around its requests makes a
    race on loopback mean what it means on S3.
    """
    import logging

    import boto3
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    lock = threading.Lock()
    plain = S3Response._key_response_put  # noqa: SLF001

    def locked(*arguments: object, **named: object) -> object:
        with lock:
            return plain(*arguments, **named)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    environment = {
        "AWS_ACCESS_KEY_ID": "loopback",
        "AWS_SECRET_ACCESS_KEY": "loopback-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with mock.patch.object(S3Response, "_key_response_put", locked):
        server.start()
        try:
            host, port = server.get_host_and_port()
            environment["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
            with mock.patch.dict(os.environ, environment):
                boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"]).create_bucket(Bucket=BUCKET)
                yield f"s3://{BUCKET}"
        finally:
            server.stop()
