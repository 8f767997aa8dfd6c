"""Where Redis is, and the password for it. Standard library only."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlops_lab.errors import FeatureStoreUnreachable, SettingsWrong


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is.

    Attributes:
        user: Empty for the default one.
        password: Of the address; a password file comes before it, and is read at each connection.
    """

    host: str
    port: int
    database: int
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    @classmethod
    def of(cls, url: str, password_file: Path | None = None) -> "Address":
        """Of `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS. Raises SettingsWrong."""
        try:
            parts = urlsplit(url)
            database = int(parts.path.strip("/") or 0)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment or database < 0:
                raise ValueError(url)
            return cls(
                parts.hostname,
                parts.port or 6379,
                database,
                parts.scheme == "rediss",
                unquote(parts.username or ""),
                unquote(parts.password or ""),
                password_file,
            )
        except ValueError:
            shown = url.rpartition("@")[2]
            raise SettingsWrong(f"'{shown}' is no address of Redis.", "write LAB_FEATURES__REDIS=redis://HOST:PORT/DATABASE.") from None

    def __str__(self) -> str:
        """For people: no user and no password."""
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/{self.database}"

    def secret(self) -> str:
        """The password; empty for none. Raises FeatureStoreUnreachable where its file cannot be read."""
        if self.password_file is None:
            return self.password
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = f"the password file {self.password_file} cannot be read ({error})"
            raise FeatureStoreUnreachable.at(str(self), why, "credentials") from error
