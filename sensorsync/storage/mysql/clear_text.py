"""Refusal of authentication plugins that send the password in clear text to a server whose certificate is not verified.

A server may request it at login: PAM and LDAP need it (`mysql_clear_password`, MariaDB's `dialog`). The driver would
send it to any server that asks, also on an unencrypted connection; MySQL's own client needs an option for it (MySQL
Reference Manual, "Client-Side Cleartext Pluggable Authentication").
"""

from __future__ import annotations

from typing import Any, NoReturn

import pymysql
from pymysql.constants import CR

from sensorsync.config import DatabaseSettings

_PLUGINS = ("mysql_clear_password", "dialog")


def auth_plugin_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    """Return the arguments of PyMySQL that refuse to send the password in clear text.

    They are empty where `database.tls.mode` verifies the server, or the server is on this machine (a Unix socket).
    """
    if settings.unix_socket or settings.tls.mode.startswith("verify-"):
        return {}
    return {"auth_plugin_map": dict.fromkeys(_PLUGINS, _CleartextPasswordRefused)}


class _CleartextPasswordRefused:
    """An authentication plugin for PyMySQL's `auth_plugin_map`."""

    def __init__(self, connection: object) -> None:
        """Accept the connection. The driver creates one plugin for each login."""

    def authenticate(self, _packet: object) -> NoReturn:
        raise pymysql.OperationalError(
            CR.CR_AUTH_PLUGIN_ERR,
            "the server asks for the password in the clear, and nothing makes sure who it is:"
            " set database.tls.mode to verify-ca or verify-identity",
        )
