"""Causes below MQTT: name, TCP, certificates, the TLS handshake and its files."""

from __future__ import annotations

from typing import Final

from sensorsync.mqtt.client.causes.cause import Cause, GuideSection

NETWORK: Final = (
    Cause(
        "name_unknown",
        GuideSection.NETWORK,
        "the name of the host is not known",
        "check mqtt.host (MQTT_BROKER_HOST) for a typing error, and that this machine asks the right name server",
        typical_messages="Name or service not known; nodename nor servname provided; NXDOMAIN",
    ),
    Cause(
        "name_server",
        GuideSection.NETWORK,
        "the name server does not answer",
        "check this machine's network and its name server (/etc/resolv.conf)",
        permanent=False,
        typical_messages="Temporary failure in name resolution",
    ),
    Cause(
        "refused",
        GuideSection.NETWORK,
        "nothing listens on this port",
        "check mqtt.host and mqtt.port (8883 with TLS, 1883 without; some providers use others), and that the broker runs",
        permanent=False,
        typical_messages="Connection refused; ECONNREFUSED",
    ),
    Cause(
        "timeout",
        GuideSection.NETWORK,
        "no answer in time",
        "a firewall drops the packets, or the host is down: check mqtt.host and mqtt.port, that this network lets port 8883 out"
        " (many company and mobile networks don't), and that the broker's own list of allowed addresses has this machine",
        permanent=False,
        typical_messages="Connection timed out; ETIMEDOUT; nc -vz HOST 8883 hangs",
    ),
    Cause(
        "unreachable",
        GuideSection.NETWORK,
        "there is no way to this address",
        "check mqtt.host, this machine's network and its routes (VPN, container network)",
        permanent=False,
        typical_messages="No route to host; Network is unreachable",
    ),
    Cause(
        "connection_lost",
        GuideSection.NETWORK,
        "the connection was lost",
        "look into the broker's log; a proxy or firewall in between may cut connections, too",
        permanent=False,
        typical_messages="Connection reset by peer",
    ),
)

CERTIFICATES: Final = (
    Cause(
        "certificate_authority",
        GuideSection.CERTIFICATES,
        "the broker's certificate is signed by an authority that we don't trust",
        "set mqtt.tls.ca_file (CA_CERT_PATH) to the CA file of the broker's provider; if it is the right one,"
        " the broker doesn't send its intermediate certificates",
        typical_messages="certificate verify failed: unable to get local issuer certificate; "
        "self-signed certificate in certificate chain",
    ),
    Cause(
        "certificate_self_signed",
        GuideSection.CERTIFICATES,
        "the broker's certificate is self-signed",
        "if that is what you expect, copy it from the broker and set mqtt.tls.ca_file (CA_CERT_PATH) to it; else do not connect",
        typical_messages="certificate verify failed: self-signed certificate",
    ),
    Cause(
        "certificate_expired",
        GuideSection.CERTIFICATES,
        "a certificate of the broker has expired",
        "renew the broker's certificate; check this machine's clock",
        typical_messages="certificate verify failed: certificate has expired",
    ),
    Cause(
        "certificate_not_yet_valid",
        GuideSection.CERTIFICATES,
        "the broker's certificate is not valid yet",
        "check this machine's clock (a device without a battery starts in 1970)",
        typical_messages="certificate verify failed: certificate is not yet valid",
    ),
    Cause(
        "certificate_name",
        GuideSection.CERTIFICATES,
        "the broker's certificate is for another name",
        "set mqtt.host to a name that it carries, or mqtt.tls.server_name when the broker is reached by another name or an address",
        typical_messages="certificate verify failed: Hostname mismatch; IP address mismatch",
    ),
    Cause(
        "certificate_rejected",
        GuideSection.CERTIFICATES,
        "the broker's certificate was not accepted",
        "look at it with openssl s_client, and have it made anew: not for servers, revoked, or with too weak a key or hash",
        typical_messages="certificate verify failed: unsupported certificate purpose; EE certificate key too weak",
    ),
    Cause(
        "certificate_expires_soon",
        GuideSection.CERTIFICATES,
        "the broker's certificate expires soon",
        "renew it: from that day on nobody can connect",
        insufficient=True,
    ),
)

HANDSHAKE: Final = (
    Cause(
        "plaintext_port",
        GuideSection.HANDSHAKE,
        "this port does not speak TLS",
        "set mqtt.port to the broker's TLS port (usually 8883); only on a network that you trust: mqtt.tls.enabled: false",
        permanent=False,
        typical_messages="wrong version number; packet length too long; record layer failure; EOF occurred in violation of protocol",
    ),
    Cause(
        "tls_port",
        GuideSection.HANDSHAKE,
        "this port expects TLS, and we connect without",
        "set mqtt.tls.enabled: true (mqtt.tls.ca_file, CA_CERT_PATH, when the broker has a CA of its own)",
        typical_messages="the connection is closed at once, without an answer to CONNECT",
    ),
    Cause(
        "client_certificate_required",
        GuideSection.HANDSHAKE,
        "the broker demands a client certificate, and we sent none",
        "set mqtt.tls.cert_file and mqtt.tls.key_file",
        typical_messages="tlsv13 alert certificate required; peer did not return a certificate",
    ),
    Cause(
        "client_certificate_rejected",
        GuideSection.HANDSHAKE,
        "the broker does not accept our client certificate",
        "check mqtt.tls.cert_file: it must be signed by the CA that the broker trusts for clients, be complete (with its"
        " intermediates), and not have expired",
        typical_messages="tlsv1 alert unknown ca; alert bad certificate; alert certificate unknown; alert certificate expired",
    ),
    Cause(
        "tls_version",
        GuideSection.HANDSHAKE,
        "the broker offers no TLS version that we accept",
        "have the broker speak TLS 1.2 or 1.3: sensorsync accepts nothing older",
        typical_messages="unsupported protocol; tlsv1 alert protocol version",
    ),
    Cause(
        "tls_server_name",
        GuideSection.HANDSHAKE,
        "the broker does not know the server name (SNI) that we ask for",
        "set mqtt.host or mqtt.tls.server_name to the name that the provider gave you: its servers carry many brokers",
        typical_messages="tlsv1 unrecognized name",
    ),
    Cause(
        "tls_alpn",
        GuideSection.HANDSHAKE,
        "the broker does not know the protocols (ALPN) that we offer",
        "correct or remove mqtt.tls.alpn",
        typical_messages="tlsv1 alert no application protocol",
    ),
    Cause(
        "alpn_ignored",
        GuideSection.HANDSHAKE,
        "the broker took no notice of mqtt.tls.alpn",
        "it is probably not needed: remove it",
        insufficient=True,
    ),
    Cause(
        "handshake_failed",
        GuideSection.HANDSHAKE,
        "TLS could not be agreed on",
        "the broker wants a client certificate (mqtt.tls.cert_file), another server name (mqtt.tls.server_name) or other ciphers:"
        " its log says which",
        typical_messages="sslv3 alert handshake failure; no shared cipher",
    ),
    Cause(
        "handshake_timeout",
        GuideSection.HANDSHAKE,
        "TCP connects, but the TLS handshake is not answered",
        "the port may not speak TLS, or a firewall inspects TLS and swallows it: try from another network",
        permanent=False,
        typical_messages="SSL handshake timed out; openssl s_client prints CONNECTED and hangs",
    ),
    Cause(
        "handshake_cut",
        GuideSection.HANDSHAKE,
        "the connection was cut during the TLS handshake",
        "the broker or a firewall in between does not want this client: see the broker's log, try from another network",
        permanent=False,
        typical_messages="unexpected eof while reading; Connection reset by peer",
    ),
    Cause(
        "unencrypted",
        GuideSection.HANDSHAKE,
        "user name and password travel unencrypted",
        "set mqtt.tls.enabled: true or mqtt.port: 8883",
        insufficient=True,
    ),
)

TLS_FILES: Final = (
    Cause(
        "ca_file",
        GuideSection.FILES,
        "mqtt.tls.ca_file cannot be used",
        "name a PEM file that holds the broker's CA certificate: mqtt.tls.ca_file (CA_CERT_PATH)",
        typical_messages="No such file or directory; no certificate or crl found",
    ),
    Cause(
        "cert_file",
        GuideSection.FILES,
        "mqtt.tls.cert_file and mqtt.tls.key_file cannot be used",
        "name PEM files that this user may read: the certificate (with its intermediates) and its private key",
        typical_messages="No such file or directory; Permission denied; PEM lib",
    ),
    Cause(
        "key_mismatch",
        GuideSection.FILES,
        "mqtt.tls.key_file is not the key of mqtt.tls.cert_file",
        "name the key that the certificate was made for",
        typical_messages="key values mismatch",
    ),
    Cause(
        "key_password",
        GuideSection.FILES,
        "mqtt.tls.key_file is encrypted, and mqtt.tls.key_password does not open it",
        "set mqtt.tls.key_password (SENSORSYNC_MQTT__TLS__KEY_PASSWORD)",
        typical_messages="bad decrypt; Enter PEM pass phrase",
    ),
)
