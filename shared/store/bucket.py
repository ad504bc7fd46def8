"""A store in a bucket: S3, Google Cloud Storage, Azure and what else obstore speaks.

Creation is a put with `If-None-Match: *`, compare-and-set a put with `If-Match`: one winner, decided by the server.
Files beyond one part are uploaded in parallel parts, which is allowed only where replacing is harmless
(content-addressed names).

Credentials: the environment (``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_KEY``
...), the machine's role, and for S3 the profile of ``~/.aws`` that ``AWS_PROFILE`` names. ``AWS_ENDPOINT_URL`` leads
to other S3 servers; plain http is taken on loopback, elsewhere only with ``AWS_ALLOW_HTTP=true``.

Not covered: buckets that ignore conditional puts (S3 has them since 2024; MinIO, R2, Ceph and GCS have them too).
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from shared.errors import InfiMmrError
from shared.store.base import READ_BYTES, Entry, Store, checked_path

PART_BYTES = 16 << 20
"""Size of an upload part; S3 allows 10,000 parts, so files of 160 GB."""
_IN_FLIGHT = 4
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_ROLE_ASKED = re.compile(r"/latest/(?:api/token|meta-data)|/computeMetadata/|/metadata/identity/|169\.254\.170\.")
"""Addresses at which a cloud's machines ask for their role: the client goes there where it found no key."""
_KEYS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (public: AWS_SKIP_SIGNATURE=true)",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfs": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_SECRETS = re.compile(r"(?<=://)[^/@\s]+@|\?[^\s\"')]*")


class BucketStore(Store):
    """Files below a prefix of a bucket."""

    def __init__(self, url: str) -> None:
        """Prepare the connection; nothing is sent."""
        super().__init__(url)
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        config = _s3_config() if urlsplit(url).scheme in {"s3", "s3a"} else {}
        retries = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
        options: dict[str, object] = {"timeout": "180s", "connect_timeout": "10s"}
        if config.pop("allow_http", None):
            options["allow_http"] = True
        try:
            self._bucket = cast("Any", from_url)(url, client_options=options, retry_config=retries, config=config)
        except (BaseError, ValueError) as error:
            message = f"cannot open the store {self.url}: {_clean(error)}"
            raise InfiMmrError(message, "Pass a folder or a URL such as s3://bucket/prefix") from error

    def get(self, path: str) -> bytes:
        """Return a file's bytes. Raises `NotInStoreError`."""
        with self._calls(path) as obstore:
            return bytes(obstore.get(self._bucket, checked_path(path)).bytes())

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on. Raises `NotInStoreError`."""
        with self._calls(path) as obstore:
            return bytes(obstore.get_range(self._bucket, checked_path(path), start=start, length=length))

    def views(self, path: str) -> Iterator[memoryview]:
        """Yield a file's bytes in order from one request, uncopied. Raises `NotInStoreError`."""
        with self._calls(path) as obstore:
            for piece in obstore.get(self._bucket, checked_path(path)).stream(min_chunk_size=READ_BYTES):
                yield memoryview(piece)

    def head(self, path: str) -> Entry | None:
        """Return a file's size and time, or None where it is absent."""
        with self._calls(path) as obstore:
            try:
                meta = obstore.head(self._bucket, checked_path(path))
            except FileNotFoundError:
                return None
            return Entry(path, meta["size"], meta["last_modified"].timestamp())

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files under the folder `prefix`."""
        where = checked_path(prefix.rstrip("/")) if prefix else None
        with self._calls(prefix) as obstore:
            for batch in obstore.list(self._bucket, where):
                for meta in batch:
                    if not any(segment.startswith(".") for segment in meta["path"].split("/")):
                        yield Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly under `prefix`."""
        where = checked_path(prefix.rstrip("/")) if prefix else None
        with self._calls(prefix) as obstore:
            found = obstore.list_with_delimiter(self._bucket, where)["common_prefixes"]
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def put(self, path: str, data: bytes | Path, *, durable: bool = True) -> None:  # noqa: ARG002  (always durable)
        """Write a file, replacing it as a whole; long ones in parallel parts."""
        self._put(path, data)

    def put_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file from its pieces; long ones in parallel parts."""
        self._put(path, iter(pieces))

    def _put(self, path: str, content: bytes | Path | Iterator[bytes | memoryview]) -> None:
        with self._calls(path) as obstore:
            obstore.put(self._bucket, checked_path(path), content, chunk_size=PART_BYTES, max_concurrency=_IN_FLIGHT)

    def put_new(self, path: str, data: bytes | Path) -> bool:
        """Create a file; return False where it exists. The server decides among racing writers."""
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._calls(path) as obstore:
            try:
                obstore.put(self._bucket, checked_path(path), content, mode="create")
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                return False
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error where it is absent."""
        with self._calls(path) as obstore, suppress(FileNotFoundError):
            obstore.delete(self._bucket, checked_path(path))

    def compare_and_set(self, path: str, expected: bytes | None, new: bytes) -> bool:
        """Write `new` if the file holds `expected`; the server compares the entity tag of what was read."""
        if expected is None:
            return self.put_new(path, new)
        with self._calls(path) as obstore:
            try:
                found = obstore.get(self._bucket, checked_path(path))
                tag = found.meta["e_tag"]
                if tag is None or found.bytes().to_bytes() != expected:
                    return False
                obstore.put(self._bucket, path, new, mode={"e_tag": tag})
            except (FileNotFoundError, obstore.exceptions.NotFoundError, obstore.exceptions.PreconditionError):
                return False
        return True

    @contextmanager
    def _calls(self, path: str) -> Iterator[Any]:
        """Yield the client; what it refuses about `path` is told in one line."""
        import obstore
        from obstore import exceptions

        try:
            yield obstore
        except (FileNotFoundError, exceptions.NotFoundError):
            raise self._absent(path) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
            message = f"no permission in the store {self.url}"
            raise InfiMmrError(message, "Check the credentials in the environment or pass --store") from None
        except (exceptions.BaseError, OSError) as error:
            if _ROLE_ASKED.search(str(error)):  # no key was found, and the machine has no role to ask for one
                steps = (words for start, words in _KEYS.items() if self.url.startswith(start))
                step = next(steps, "Set the store's keys")
                raise InfiMmrError(f"no credentials for the store {self.url}", f"{step}, or pass --store") from None
            # `from None`: the cause's own text may hold a signed URL.
            message = f"the store {self.url} failed: {_clean(error)}"
            raise InfiMmrError(message, "Check the network, the endpoint and the bucket, then run it again") from None


def _clean(error: Exception) -> str:
    """Return the first words of an error without user, password or query of any URL in it."""
    return _SECRETS.sub("", str(error).split("Debug source")[0])[:300]


def _s3_config() -> dict[str, object]:
    """Return what obstore does not find itself: the profile in ``~/.aws``, and plain http on loopback."""
    config: dict[str, object] = {}
    keys_elsewhere = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    )
    profile = _aws_profile()
    if not any(os.environ.get(name) for name in keys_elsewhere):
        keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        config |= {name: profile[name] for name in keys if name in profile}
    if "AWS_REGION" not in os.environ and "AWS_DEFAULT_REGION" not in os.environ and "region" in profile:
        config["aws_region"] = profile["region"]
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or os.environ.get("AWS_ENDPOINT")
        or profile.get("endpoint_url")
    )
    if endpoint:
        config["aws_endpoint"] = endpoint
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and parts.hostname in _LOOPBACK:
            config["allow_http"] = True
    return config


def _aws_profile() -> dict[str, str]:
    home = Path.home() / ".aws"
    name = os.environ.get("AWS_PROFILE") or "default"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(
            [
                os.environ.get("AWS_CONFIG_FILE") or home / "config",
                os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials",
            ]
        )
    except (configparser.Error, OSError):
        return {}
    sections = [section for section in (f"profile {name}", name) if parser.has_section(section)]
    return dict(pair for section in sections for pair in parser[section].items())
