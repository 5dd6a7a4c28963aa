"""The settings of the database's side: `database`, `pipeline` and `dead_letters`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sensorsync.config.fields import (
    Count,
    FilePath,
    Port,
    Secret,
    SecretFile,
    Section,
    from_its_file,
    section,
    setting,
)
from sensorsync.config.units import Duration, Size

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
    password: Annotated[Secret, AfterValidator(from_its_file)] = setting(
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


class PipelineSettings(Section):
    """`pipeline`: from delivery to commit."""

    processes: Annotated[int, Field(ge=1, le=64)] = setting(
        1,
        doc="Processes of `subscribe`, each with its own connections, workers and memory: one can use no more than one core.",
        example=2,
    )
    workers: Annotated[int, Field(ge=1, le=256)] = setting(
        2, doc="Writer threads (of each process), each with one database connection.", example=2
    )
    batch_size: Annotated[int, Field(ge=1, le=50_000)] = setting(
        1000, doc="Messages in one transaction at most.", example=1000, unit="messages", env=["WORKER_BATCH_SIZE"]
    )
    batch_timeout: Annotated[Duration, Field(gt=0, le=60)] = setting(
        0.2, doc="Longest wait of a message for its batch to fill.", example="200ms", unit="duration"
    )
    queue_bytes: Annotated[Size, Field(ge=65536)] = setting(
        64 * 2**20,
        doc="Bytes of payloads and topics that may wait in memory before reading from the broker pauses.",
        example="64MiB",
        unit="size",
    )
    queue_limit: Count = setting(
        10_000,
        doc="Messages that may wait in memory before reading from the broker pauses; the delivery window is a bound below it.",
        example=10_000,
        unit="messages",
    )
    stop_timeout: Annotated[Duration, Field(gt=0)] = setting(
        20.0, doc="Time for the writers to finish after the first SIGTERM or Ctrl-C.", example="20s", unit="duration"
    )
    backoff_min: Annotated[Duration, Field(gt=0)] = setting(
        0.1, doc="First wait before writing a batch again.", example="100ms", unit="duration"
    )
    backoff_max: Annotated[Duration, Field(gt=0)] = setting(
        10.0, doc="Longest wait before writing a batch again.", example="10s", unit="duration"
    )
    status_interval: Annotated[Duration, Field(gt=0)] = setting(
        10.0, doc="Time between two [STATUS] lines.", example="10s", unit="duration"
    )
    status_every: Count = setting(10_000, doc="Stored rows between two [STATUS] lines.", example=10_000, unit="rows")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_min > self.backoff_max:
            raise ValueError("pipeline.backoff_min must not be above pipeline.backoff_max")
        return self


class DeadLetterSettings(Section):
    """`dead_letters`: the box for messages that can never be stored."""

    path: FilePath | None = setting(
        None,
        doc="The box's SQLite file, on a local disk.",
        example="/var/lib/sensorsync/dead-letters.sqlite",
        default_text="dead-letters.sqlite in state_dir",
    )
    max_size: Annotated[Size, Field(ge=2**20)] = setting(
        2**30, doc="Largest size of the file.", example="1GiB", unit="size"
    )
    max_attempts: Count = setting(
        8,
        doc="Replays that a letter is given; when the last of them refuses it, it is quarantined, and left alone until released.",
        example=8,
        unit="replays",
    )
    backoff_min: Annotated[Duration, Field(gt=0)] = setting(
        300.0,
        doc="How long a letter that a replay refused is left alone; twice as long after each further attempt.",
        example="5m",
        unit="duration",
    )
    backoff_max: Annotated[Duration, Field(gt=0)] = setting(
        86400.0, doc="Longest time that a letter is left alone between two replays.", example="1d", unit="duration"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_min > self.backoff_max:
            raise ValueError("dead_letters.backoff_min must not be above dead_letters.backoff_max")
        return self
