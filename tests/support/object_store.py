"""A real S3 server on the loopback address: moto's, with a few objects put into it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# What s3fs, boto3 and the child processes of tests need to find the server, and nobody else's keys.
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class ObjectStore:
    """The server, by its address."""

    url: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment of who uses it."""
        return {**_VARIABLES, "AWS_ENDPOINT_URL": self.url}

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Put objects into a bucket, which is made if need be."""
        import boto3

        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        names = ("aws_access_key_id", "aws_secret_access_key", "region_name")
        given = {name: _VARIABLES[key] for name, key in zip(names, keys, strict=True)}
        client = boto3.client("s3", endpoint_url=self.url, **given)
        client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data)
        client.close()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """The server, running, without an object in it."""
    from moto.server import ThreadedMotoServer

    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()
