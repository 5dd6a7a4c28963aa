"""The section `database`: the server or the file that stores the readings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sensorsync.config.sections.fields import (
    FilePath,
    Port,
    Secret,
    SecretFile,
    Section,
    resolve_password,
    section,
    setting,
)
from sensorsync.config.sections.units import Duration

TlsMode = Literal["disabled", "preferred", "required", "verify-ca", "verify-identity"]


def _default_mode(declared: dict[str, Any]) -> str:
    return "preferred" if declared.get("ca_file") is None else "verify-ca"


class DatabaseTlsSettings(Section):
    """`database.tls`: how the connection to the database is encrypted."""

    ca_file: FilePath | None = setting(
        None,
        doc="PEM file of the authority that signed the server's certificate. Unset: the system's authorities.",
        example="/etc/ssl/certs/database-ca.pem",
    )
    mode: TlsMode = setting(
        doc="`preferred` encrypts when the server can, `required` always; only the `verify-` modes check the certificate.",
        example="verify-identity",
        default_factory=_default_mode,
        default_text="preferred, or verify-ca when ca_file is set",
    )


class DatabaseSettings(Section):
    """`database`: where the readings are stored, in the table `sensor_readings`."""

    driver: Literal["mysql", "sqlite"] = setting(
        "mysql", doc="`mysql` (MySQL or MariaDB) or `sqlite` (one file).", example="mysql"
    )
    host: str = setting(
        "localhost", doc="Host name or address of the server.", example="db.example.com", env=["DB_HOST"], min_length=1
    )
    port: Port = setting(3306, doc="TCP port of the server.", example=3306, env=["DB_PORT"])
    unix_socket: FilePath | None = setting(
        None,
        doc="Socket file of a server on this machine; used instead of host and port.",
        example="/run/mysqld/mysqld.sock",
    )
    user: str = setting(
        "sensorsync", doc="User name for the server.", example="sensorsync", env=["DB_USER"], min_length=1
    )
    password_file: SecretFile | None = setting(
        None,
        doc="A file that holds the password for the server: a secret of Docker, a credential of systemd.",
        example="/run/secrets/database-password",
    )
    password: Annotated[Secret, AfterValidator(resolve_password)] = setting(
        SecretStr(""), doc="Password for the server.", example="change-me", env=["DB_PASSWORD"]
    )
    name: str = setting(
        "sensorsync",
        doc="Name of the database (schema).",
        example="sensorsync",
        env=["DB_NAME"],
        min_length=1,
        max_length=64,
    )
    path: FilePath | None = setting(
        None, doc="The file, when `database.driver` is `sqlite`.", example="/var/lib/sensorsync/readings.sqlite"
    )
    tls: DatabaseTlsSettings = section(DatabaseTlsSettings)
    pool_size: Annotated[int, Field(ge=1, le=1000)] = setting(
        20, doc="Connections to the server at most.", example=20, env=["CONNECTION_POOL_SIZE"]
    )
    connect_timeout: Annotated[Duration, Field(gt=0)] = setting(
        5.0, doc="Time to reach the server.", example="5s", unit="duration"
    )
    lock_wait_timeout: Annotated[Duration, Field(ge=1)] = setting(
        5.0,
        doc="How long a statement waits for a row lock (innodb_lock_wait_timeout, whole seconds).",
        example="5s",
        unit="duration",
    )
    read_timeout: Annotated[Duration, Field(gt=0)] = setting(
        15.0,
        doc="How long we wait for the server's answer before the connection counts as lost.",
        example="15s",
        unit="duration",
    )
    conflict: Literal["first", "last", "newest"] = setting(
        "first",
        doc="When a row with the same key is there already: keep the `first`, take the `last`, or the one `newest` by arrival.",
        example="first",
    )
    wait_for_database: bool = setting(
        False,
        doc="At the start, wait for a database that is missing or refuses, instead of ending with exit code 4.",
        example=False,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.driver == "sqlite" and self.path is None:
            raise ValueError("database.driver is sqlite, so database.path must name the file")
        if self.lock_wait_timeout != int(self.lock_wait_timeout):
            raise ValueError("database.lock_wait_timeout must be whole seconds: the server knows no fractions")
        if self.lock_wait_timeout >= self.read_timeout:
            raise ValueError(
                "database.lock_wait_timeout must be below database.read_timeout: what we give up must not go on holding locks"
            )
        if self.connect_timeout > self.read_timeout:
            raise ValueError("database.connect_timeout must not be above database.read_timeout")
        return self
