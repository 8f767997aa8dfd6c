"""A place in an object store that speaks S3, with all that is needed to get there."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mlops_lab.errors import SettingsWrong

_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._=/-]*))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Everything under `s3://bucket/prefix`.

    Attributes:
        bucket: Exists already.
        prefix: What the keys begin with, without slashes at its ends; may be empty.
        endpoint: Of the server, such as http://127.0.0.1:9000; empty is Amazon's own.
        region: As the server calls it.
        key_id: Access key; empty takes what the environment of the process has (AWS_ACCESS_KEY_ID, a role of the machine).
        secret: Of the key.
        timeout_s: After which one request has failed.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    key_id: str = ""
    secret: str = field(default="", repr=False)
    timeout_s: float = 10.0

    @classmethod
    def of(
        cls,
        address: str,
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        key_file: Path | None = None,
        secret_file: Path | None = None,
        timeout_s: float = 10.0,
    ) -> Self:
        """Read an address and the files of its key. Raises SettingsWrong."""
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise SettingsWrong(
                f"'{address}' is no place in an object store.", "write it like s3://bucket/prefix, or leave it empty for the home."
            )
        if (key_file is None) != (secret_file is None):
            raise SettingsWrong(
                "A key of the object store has two halves, and one is set.",
                "set both LAB_STORES__S3_KEY_FILE and LAB_STORES__S3_SECRET_FILE.",
            )
        prefix = (found["prefix"] or "").strip("/")
        return cls(found["bucket"], prefix, endpoint, region, _read(key_file), _read(secret_file), timeout_s)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def shown(self) -> str:
        """For people: where it is, and at which server."""
        return f"{self.url} at {self.endpoint or 'Amazon S3'}"

    def options(self) -> dict[str, str]:
        """As the Rust libraries of object stores call it, which Delta Lake is built on."""
        keys = {"aws_access_key_id": self.key_id, "aws_secret_access_key": self.secret} if self.key_id else {}
        server = (
            {"aws_endpoint": self.endpoint, "aws_allow_http": str(self.endpoint.startswith("http://")).lower()} if self.endpoint else {}
        )
        timeout = {"timeout": f"{self.timeout_s:g}s", "connect_timeout": f"{min(self.timeout_s, 5):g}s"}
        return {"aws_region": self.region, "aws_conditional_put": "etag", **keys, **server, **timeout}


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsWrong(
            f"The key of the object store cannot be read from {path}: {error}.", "correct the LAB_STORES__S3_ variable or the file."
        ) from error
