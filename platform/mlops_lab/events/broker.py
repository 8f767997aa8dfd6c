"""How a Kafka broker is spoken to: addresses, names, credentials. A value; nothing is opened here."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlops_lab.errors import SettingsWrong

Security = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Broker:
    """One cluster, as one user, under one prefix.

    Attributes:
        servers: Bootstrap servers, host:port, comma-separated.
        prefix: What the names of our topics and groups begin with.
        replication: Replicas of each topic that is made.
        security: How brokers are spoken to.
        mechanism: Of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        user: Of SASL.
        password_file: Read anew for each connection, so that renewed credentials are taken up without a restart.
        ca_file: Certificates (PEM) by which the brokers' own are checked; None takes the system's.
        timeout_s: Seconds after which a broker that does not answer is down.
    """

    servers: str
    prefix: str = ""
    replication: int = 1
    security: Security = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password_file: Path | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_s: float = 10.0

    def name(self, topic_or_group: str) -> str:
        """What ours is called on the broker."""
        return self.prefix + topic_or_group

    def client_config(self) -> dict[str, str | int]:
        """The part of librdkafka's configuration that every client shares.

        Raises:
            SettingsWrong: An address is none, or a file or user that the security asks for is missing.
        """
        return {
            "bootstrap.servers": self._addresses(),
            "client.id": "mlops-lab",
            "log_level": 0,  # what matters is raised; librdkafka writes to standard error what it will try again anyway
            "socket.timeout.ms": max(1000, round(self.timeout_s * 1000)),
            "socket.keepalive.enable": 1,
            "reconnect.backoff.max.ms": 1000,
            **self._security(),
        }

    def _addresses(self) -> str:
        for address in self.servers.split(","):
            found = _ADDRESS.fullmatch(address.strip())
            if found is None or not 0 < int(found[2]) <= 65535:
                raise SettingsWrong(
                    f"LAB_EVENTS__KAFKA: '{address.strip()}' is no address of a broker.", "write host:port, several with commas between."
                )
        return self.servers

    def _security(self) -> dict[str, str | int]:
        config: dict[str, str | int] = {"security.protocol": self.security}
        if self.security.startswith("SASL_"):
            if not self.user:
                raise SettingsWrong(f"LAB_EVENTS__SECURITY is {self.security}, and no user is named.", "set LAB_EVENTS__USER.")
            config |= {"sasl.mechanism": self.mechanism, "sasl.username": self.user, "sasl.password": self._password()}
        if self.security.endswith("SSL") and self.ca_file is not None:
            if not self.ca_file.is_file():
                raise SettingsWrong(f"LAB_EVENTS__CA_FILE: there is no file {self.ca_file}.", "put the certificates there, or unset it.")
            config["ssl.ca.location"] = str(self.ca_file)
        return config

    def _password(self) -> str:
        if self.password_file is None:
            raise SettingsWrong(
                f"LAB_EVENTS__SECURITY is {self.security}, and no file with the password is named.", "set LAB_EVENTS__PASSWORD_FILE."
            )
        try:
            password = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise SettingsWrong(
                f"LAB_EVENTS__PASSWORD_FILE: {self.password_file} cannot be read: {error}.",
                "put the password there.",
            ) from error
        if not password:
            raise SettingsWrong(f"LAB_EVENTS__PASSWORD_FILE: {self.password_file} is empty.", "write the password into it.")
        return password
