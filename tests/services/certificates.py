"""A certificate authority of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


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
    def issue(
        cls, folder: Path, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Self:
        """Write them into `folder`, the server's for `names` (default: localhost and 127.0.0.1), valid from and to these times."""
        made = cls(
            *(folder / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key", "stranger"))
        )
        ca = trustme.CA()
        server = ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_before=not_before, not_after=not_after)
        client = ca.issue_cert("client@sensorsync.test", common_name="client")
        ca.cert_pem.write_to_path(made.authority)
        for certificate, chain, key in ((server, made.server, made.server_key), (client, made.client, made.client_key)):
            chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
            certificate.private_key_pem.write_to_path(key)
        trustme.CA().cert_pem.write_to_path(made.stranger)
        return made

    def self_signed(self, folder: Path) -> Self:
        """The same, but the server's certificate signed by nobody else."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        made = replace(self, server=folder / "self.pem", server_key=folder / "self-key.pem")
        made.server.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        made.server_key.write_bytes(_private(key, serialization.NoEncryption()))
        return made

    def encrypted_client_key(self, folder: Path, password: str) -> Path:
        """The client's key again, encrypted."""
        key = serialization.load_pem_private_key(self.client_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        path = folder / "client-key-encrypted.pem"
        path.write_bytes(_private(key, serialization.BestAvailableEncryption(password.encode())))
        return path


def _private(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
