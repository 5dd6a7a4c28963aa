"""A marker is planted in every secret, the commands run as processes, and all that they say and leave behind is searched for it."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import mqtt5
import pytest

from sensorsync.messages.envelope import Encrypter, Key, Signer, generate_key
from tests.commands import Background, Commands
from tests.conftest import Database
from tests.fakes import FakeBroker, InThread
from tests.letters import good, park
from tests.processes import children
from tests.services import Certificates, eventually, free_port

pytestmark = pytest.mark.timeout(720)

MARKER = "marker-s3cret"
CONTENT = (MARKER * 4)[:42] + "A"  # base64url of 32 bytes
READING = json.dumps(
    {"event_id": "e", "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05Z", "value": 1}
).encode()
FORMATS = cycle(("text", "json"))


@dataclass
class Planted:
    """One installation whose every secret holds the marker, and all that was seen of it."""

    folder: Path
    port: int
    metrics_port: int = field(default_factory=free_port)
    needles: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        signing = generate_key("device", "EdDSA")
        assert signing.public_pem is not None
        self.signing = signing
        self.write("device.pem", signing.material)
        self.write("device.pub.pem", signing.public_pem.encode())
        self.write("shared.key", f"{MARKER}-shared-key-of-32-bytes-or-more".encode())
        for name, secret in (("marker", MARKER.encode()), ("private key", signing.material.splitlines()[1])):
            self.needles[name] = secret
            self.needles[f"{name} in base64"] = b64encode(secret).rstrip(b"=")[:-1]
            self.needles[f"{name} in base64url"] = urlsafe_b64encode(secret).rstrip(b"=")[:-1]
            self.needles[f"{name} in hex"] = secret.hex().encode()
            self.needles[f"{name} as numbers"] = ", ".join(map(str, secret)).encode()

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def keys(self) -> list[dict[str, str]]:
        return [
            {"id": "device", "algorithm": "EdDSA", "secret_file": str(self.folder / "device.pem")},
            {"id": "shared", "secret_file": str(self.folder / "shared.key")},
            {"id": "content", "algorithm": "A256GCM", "secret": CONTENT},
        ]

    def commands(self, **more: str) -> Commands:
        """Every secret in the environment or in a file: the command line takes none."""
        tls = self.folder / "tls"
        settings = {
            "MQTT_BROKER_HOST": "localhost",
            "MQTT_BROKER_PORT": str(self.port),
            "MQTT_USERNAME": "device",
            "MQTT_PASSWORD": f"{MARKER}-mqtt",
            "CA_CERT_PATH": str(tls / "ca.pem"),
            "SENSORSYNC_MQTT__TLS__CERT_FILE": str(tls / "client.pem"),
            "SENSORSYNC_MQTT__TLS__KEY_FILE": str(tls / "client-key-encrypted.pem"),
            "SENSORSYNC_MQTT__TLS__KEY_PASSWORD": f"{MARKER}-tls",
            "SENSORSYNC_MQTT__CONNECTIONS": "1",
            "SENSORSYNC_MQTT__INSTANCE": "here",
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(self.folder / "readings.sqlite"),
            "DB_PASSWORD": f"{MARKER}-db",
            "SENSORSYNC_STATE_DIR": str(self.folder / "state"),
            "SENSORSYNC_SIGNING_KEY": f"{MARKER}-signing-key-of-32-bytes-or-more",
            "SENSORSYNC_SECURITY__KEYS": json.dumps(self.keys()),
            "SENSORSYNC_SECURITY__SIGNATURES": "required",
            "SENSORSYNC_SECURITY__SIGNING_KEY": "device",
            "SENSORSYNC_METRICS__LISTEN": f"127.0.0.1:{self.metrics_port}",
            **more,
        }
        return Commands(settings)

    def run(self, *words: str, exit_code: int = 0, **more: str) -> None:
        """Run a command, at the most talkative level, in the log formats by turns, and keep what it said."""
        done = self.commands(**more).run("--log-level", "DEBUG", "--log-format", next(FORMATS), *words, check=False)
        assert done.exit_code == exit_code, f"{words}: {done.out}\n{done.err}"
        self.seen[f"{' '.join(words)} ({len(self.seen)})"] = (done.out + done.err).encode()

    def title(self, what: str, pid: int) -> None:
        """Keep what other users of the machine see of a process and of all its descendants: the environment is not among it."""
        for number in (pid, *descendants(pid)):
            shown = b"".join(Path(f"/proc/{number}/{name}").read_bytes() for name in ("cmdline", "comm"))
            self.seen[f"title of {what}, process {number}"] = shown

    @contextmanager
    def background(self, name: str, *words: str) -> Iterator[Background]:
        log = self.folder / f"{name}.log"
        with self.commands().start(log, "--log-level", "DEBUG", "--log-format", "json", *words) as process:
            yield process
        self.seen[f"log of {name}"] = log.read_bytes()

    def search(self, needles: Mapping[str, bytes] | None = None) -> list[str]:
        """Where something of a secret is."""
        files = [*(self.folder / "state").rglob("*"), *self.folder.glob("readings.sqlite*")]
        everything = {**self.seen, **{str(path): path.read_bytes() for path in files if path.is_file()}}
        assert any("dead-letters" in name for name in everything)
        return [
            f"{needle} in {name}: {content[max(0, content.find(secret) - 80) :][:160]!r}"
            for name, content in everything.items()
            for needle, secret in (needles or self.needles).items()
            if secret in content
        ]


def descendants(pid: int) -> list[int]:
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        found += [child, *descendants(child)]
    return found


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[tuple[Planted, InThread[FakeBroker]]]:
    folder = tmp_path / "tls"
    folder.mkdir()
    issued = Certificates.issue(folder)
    issued.encrypted_client_key(folder, f"{MARKER}-tls")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(issued.authority))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(issued.server, issued.server_key)
    credentials = {"device": f"{MARKER}-mqtt".encode()}
    with InThread(FakeBroker(ssl=server, credentials=credentials, queue_limit=None)) as broker:
        yield Planted(tmp_path, broker.port), broker


def altered(token: bytes) -> bytes:
    """The token with another character in its signature or tag. One in 256 ends with the two letters that any fixed end would be."""
    place = -20
    other = b"B" if token[place : place + 1] == b"A" else b"A"
    return token[:place] + other + token[place + 1 :]


def wrong_messages(signing: Key) -> list[bytes]:
    """What ends in the dead-letter box, for each reason that has to do with keys."""
    stranger, content = generate_key("device", "EdDSA"), Key("content", CONTENT.encode(), "A256GCM")
    good = Signer(signing).sign(READING)
    return [
        READING,
        Signer(stranger).sign(READING),
        altered(good),
        Signer(generate_key("nobody", "HS256")).sign(READING),
        Encrypter(content).encrypt(READING),
        Encrypter(generate_key("content", "A256GCM")).encrypt(good),
        altered(Encrypter(content).encrypt(good)),
        Encrypter(content).encrypt(Signer(signing).sign(b"no JSON")),
    ]


def fetched(port: int, path: str) -> bytes:
    """What a server on 127.0.0.1 answers, its headers included."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return bytes(answer.headers) + answer.read()


def test_a_planted_secret_is_in_no_output_no_log_no_file_and_no_process_title(
    planted: tuple[Planted, InThread[FakeBroker]],
) -> None:
    place, broker = planted
    place.run("init-db")
    words = ("--messages", "200", "--processes", "2", "--clients", "2", "--run", "planted")
    with place.background("subscriber", "subscribe", "--processes", "2") as subscriber:
        eventually(lambda: len(broker.do(lambda b: b.connected())) == 2, "two connected processes", 60)
        assert len(children(subscriber.pid)) == 2
        place.title("subscribe", subscriber.pid)
        for path in ("/metrics", "/healthz", "/readyz"):
            place.seen[path] = fetched(place.metrics_port, path)

        broker.set(withhold_publisher_acks=True)
        with place.background("publisher", "stress-publish", *words, "--json") as publisher:
            eventually(lambda: len(broker.do(lambda b: b.packets(mqtt5.PublishPacket))) >= 200, "200 messages", 60)
            place.title("stress-publish", publisher.pid)
            broker.do(lambda b: b.release_publisher_acks())
            done = publisher.finish()
            place.seen["stress-publish"] = done.out.encode()
            assert (done.data["acked"], done.data["signed"], done.data["encrypted"]) == (200, True, True)

        wrong = wrong_messages(place.signing)
        for payload in wrong:
            broker.do(lambda b, payload=payload: b.publish("sensors/live/wrong", payload))  # type: ignore[misc]
        eventually(
            lambda: broker.do(lambda b: sum(len(s.undelivered()) for s in b.sessions.values())) == 0, "all settled", 60
        )
        assert subscriber.terminate() == 0

    for command in (
        ("audit", "planted"),
        ("audit", "planted", "--json"),
        ("dlq", "inspect"),
        ("dlq", "inspect", "--json"),
        ("config", "show"),
        ("config", "show", "--json"),
        ("config", "check"),
        ("keys", "list"),
        ("keys", "list", "--json"),
        ("keys", "show-public", "device"),
        ("init-db", "--check"),
        ("check-cloud", "--quick", "--json"),
        ("dlq", "show", "1"),
        ("dlq", "export", "-"),
    ):
        place.run(*command)
    place.run("init-db", "--grants", "--flavor", "mysql", SENSORSYNC_DATABASE__DRIVER="mysql")
    place.run("dlq", "replay", exit_code=5)
    letters = json.loads(place.commands().run("dlq", "inspect", "--json").out)["data"]
    assert letters["total"] == len(wrong)
    assert {count["reason"] for count in letters["counts"]} == {"signature", "encryption", "json"}
    found = place.search({"the topic of the letters, which is no secret": b"sensors/live/wrong"})
    assert any("dead-letters" in where for where in found), "the search looks into the box"
    assert place.search() == []


def test_a_planted_secret_is_in_no_error(planted: tuple[Planted, InThread[FakeBroker]]) -> None:
    place, broker = planted
    place.run("init-db")
    one = ("--messages", "1", "--processes", "1", "--clients", "1")
    port = str(free_port())
    mysql = {"SENSORSYNC_DATABASE__DRIVER": "mysql", "DB_HOST": "127.0.0.1", "DB_PORT": port}
    keys = place.keys()
    broken = place.write("broken.pem", place.signing.material.replace(b"PRIVATE", b"PUBLIC"))
    no_key = json.dumps([*keys[:2], {"id": "x", "algorithm": "RS256", "secret_file": str(place.folder / "shared.key")}])
    half = json.dumps(
        [*keys[:2], {"id": "x", "algorithm": "EdDSA", "public_key_file": str(place.folder / "device.pem")}]
    )
    torn = json.dumps([*keys[:2], {"id": "x", "algorithm": "EdDSA", "public_key_file": str(broken)}])
    twice = json.dumps([*keys, {"id": "x", "secret": CONTENT}])

    for client in ("native", "paho"):
        wrong = {"MQTT_PASSWORD": f"{MARKER}-wrong", "SENSORSYNC_MQTT__CLIENT": client}
        place.run("stress-publish", *one, exit_code=3, **wrong)
    place.run("subscribe", exit_code=3, MQTT_PASSWORD=f"{MARKER}-wrong")
    place.run("stress-publish", *one, exit_code=2, SENSORSYNC_MQTT__TLS__KEY_PASSWORD=f"{MARKER}-wrong")
    place.run("stress-publish", *one, exit_code=3, MQTT_BROKER_PORT=port)
    for command in (("init-db",), ("init-db", "--grants"), ("tune-db",), ("subscribe",), ("audit", "planted")):
        place.run(*command, exit_code=4, **mysql)
    for entries in (no_key, half, torn, twice):
        place.run("subscribe", exit_code=2, SENSORSYNC_SECURITY__KEYS=entries)
    for entries in (no_key, torn):
        place.run("config", "check", exit_code=2, SENSORSYNC_SECURITY__KEYS=entries)
        place.run("keys", "list", exit_code=2, SENSORSYNC_SECURITY__KEYS=entries)
    broker.set(connack_codes=type(broker.do(lambda b: b.connack_codes))([mqtt5.ConnAckReasonCode.BANNED] * 4))
    place.run("stress-publish", *one, exit_code=3)
    place.write("state/dead-letters.sqlite", b"no database")
    place.run("dlq", "inspect", exit_code=4)
    assert place.search() == []


def test_a_planted_database_password_is_in_nothing_that_a_real_server_makes_us_say(
    planted: tuple[Planted, InThread[FakeBroker]], database: Database
) -> None:
    place, _ = planted
    database.prepare()
    right = f"{MARKER}-right"
    with database.connect() as root, root.cursor() as cursor:
        cursor.execute(f"CREATE USER IF NOT EXISTS 'planted'@'%' IDENTIFIED BY '{right}'")
        cursor.execute(f"GRANT SELECT ON `{database.name}`.sensor_readings TO 'planted'@'%'")
    account = {
        **database.environment(),
        "DB_USER": "planted",
        "SENSORSYNC_DATABASE__DRIVER": "mysql",
        "SENSORSYNC_SECURITY__SIGNATURES": "off",
    }
    box = place.folder / "state" / "dead-letters.sqlite"
    park(box, [good(1)])
    for password, command, exit_code in (
        (f"{MARKER}-wrong", ("init-db",), 4),
        (f"{MARKER}-wrong", ("subscribe",), 4),
        (f"{MARKER}-wrong", ("tune-db",), 4),
        (right, ("init-db",), 4),
        (right, ("init-db", "--grants"), 0),
        (right, ("dlq", "replay"), 4),
        (right, ("tune-db", "--json"), 0),
    ):
        place.run(*command, exit_code=exit_code, **{**account, "DB_PASSWORD": password})
    with database.connect() as root, root.cursor() as cursor:
        cursor.execute("DROP USER 'planted'@'%'")
    assert place.search() == []
