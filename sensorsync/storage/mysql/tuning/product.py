"""The product of a server by its variables: MySQL, MariaDB, a managed service, or another product with MySQL's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sensorsync.storage.mysql.server import ServerInfo


class ManagedService(NamedTuple):
    """A service that runs the server for its users, who then cannot set every variable."""

    name: str
    settings_location: str
    """The place where its users set variables."""
    has_custom_storage: bool = False
    """True when the storage is not InnoDB's: redo log, double write and page flushing are the service's own."""


AURORA: Final = ManagedService("Amazon Aurora", "the parameter group of the cluster", has_custom_storage=True)
RDS: Final = ManagedService("Amazon RDS", "the parameter group of the instance")
CLOUD_SQL: Final = ManagedService("Google Cloud SQL", "the database flags of the instance")
AZURE: Final = ManagedService("Azure Database for MySQL", "the server parameters in the portal")
HEATWAVE: Final = ManagedService("MySQL HeatWave", "the configuration of the DB system")

_Variables = Mapping[str, str]
_SERVICES: Final[tuple[tuple[ManagedService, Callable[[_Variables], bool]], ...]] = (
    (AURORA, lambda v: "aurora_version" in v or "mysql_aurora" in v.get("basedir", "")),
    (RDS, lambda v: v.get("basedir", "").startswith("/rdsdbbin/") or v.get("datadir", "").startswith("/rdsdbdata/")),
    (
        CLOUD_SQL,
        lambda v: v.get("version", "").endswith("-google") or "(google)" in v.get("version_comment", "").lower(),
    ),
    (
        AZURE,
        lambda v: "aad_auth_only" in v or "azure" in f"{v.get('version', '')}{v.get('version_comment', '')}".lower(),
    ),
    (HEATWAVE, lambda v: v.get("version", "").endswith("-cloud")),
)
_NOT_INNODB: Final = ("TiDB", "Vitess", "OceanBase", "SingleStore")


@dataclass(frozen=True, slots=True)
class Product:
    """The product of a server, as its variables describe it."""

    mariadb: bool
    version: tuple[int, int, int]
    label: str
    """The name and version, such as `MariaDB 10.11.19`, `MySQL 8.4.6`, `Percona Server 8.0.36` or `TiDB`."""
    service: ManagedService | None
    uses_innodb: bool
    """False for a product that only has MySQL's protocol. Our advice is about InnoDB."""

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Product:
        """Return the product from the rows of SHOW GLOBAL VARIABLES, with names in lower case."""
        version, comment = variables.get("version", ""), variables.get("version_comment", "")
        server = ServerInfo.from_version(version, 0)
        other = next((name for name in _NOT_INNODB if name.lower() in f"{version} {comment}".lower()), None)
        label = server.label
        if "percona" in comment.lower() and not server.mariadb:
            label = label.replace("MySQL", "Percona Server")
        service = next((service for service, fits in _SERVICES if fits(variables)), None)
        return cls(server.mariadb, server.version, other or label, service, other is None)

    @property
    def flavor(self) -> str:
        """`mysql` or `mariadb`."""
        return "mariadb" if self.mariadb else "mysql"

    @property
    def has_custom_storage(self) -> bool:
        """True when the storage below the server is the service's own."""
        return self.service is not None and self.service.has_custom_storage

    @property
    def supports_persist(self) -> bool:
        """True when the server has SET PERSIST (MySQL 8.0; MariaDB does not have it)."""
        return not self.mariadb and self.version >= (8, 0, 0)
