"""The password in the clear is only for a server whose certificate was checked.

A server may ask for it at login: PAM and LDAP need it (`mysql_clear_password`, MariaDB's `dialog`). The driver would give it to
whoever asks, also on a plain connection; MySQL's own client has to be told to (MySQL Reference Manual, "Client-Side Cleartext
Pluggable Authentication").
"""

from __future__ import annotations

from typing import Any, NoReturn

import pymysql
from pymysql.constants import CR

from sensorsync.config import DatabaseSettings

_PLUGINS = ("mysql_clear_password", "dialog")


def auth_plugin_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    """PyMySQL's arguments that keep the password back, unless `database.tls.mode` checks the server or it is on this machine."""
    if settings.unix_socket or settings.tls.mode.startswith("verify-"):
        return {}
    return {"auth_plugin_map": dict.fromkeys(_PLUGINS, _CleartextPasswordRefused)}


class _CleartextPasswordRefused:
    """A login plugin for PyMySQL's `auth_plugin_map`."""

    def __init__(self, connection: object) -> None:
        """The driver makes one for each login."""

    def authenticate(self, _packet: object) -> NoReturn:
        raise pymysql.OperationalError(
            CR.CR_AUTH_PLUGIN_ERR,
            "the server asks for the password in the clear, and nothing makes sure who it is:"
            " set database.tls.mode to verify-ca or verify-identity",
        )
