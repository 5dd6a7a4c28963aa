"""A certificate authority of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and what it issued, as PEM files. `stranger` is an authority that issued nothing here."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger: Path

    @classmethod
    def issue(cls, folder: Path, *names: str) -> Self:
        """Write them into `folder`, the server's for `names` (default: localhost and 127.0.0.1)."""
        made = cls(
            *(folder / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key", "stranger"))
        )
        ca = trustme.CA()
        server = ca.issue_cert(*(names or ("localhost", "127.0.0.1")))
        client = ca.issue_cert("client@sensorsync.test", common_name="client")
        ca.cert_pem.write_to_path(made.authority)
        for certificate, chain, key in ((server, made.server, made.server_key), (client, made.client, made.client_key)):
            chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
            certificate.private_key_pem.write_to_path(key)
        trustme.CA().cert_pem.write_to_path(made.stranger)
        return made
