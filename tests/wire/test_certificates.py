"""Backends over TLS whose certificates verify, by an authority of ours, and those whose do not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import streamed
from tests.wire.client import Client
from tests.wire.command import command
from tests.wire.proxy import config_text

NOW = datetime.now(UTC)
HINTS = {
    "unknown": ("unable to get local issuer certificate", "set SSL_CERT_FILE to a file"),
    "itself": ("self-signed certificate", "set SSL_CERT_FILE to a file"),
    "name": ("certificate is not valid for 'localhost'", "use a name from its certificate"),
    "address": ("certificate is not valid for '127.0.0.1'", "use a name from its"),
    "expired": ("certificate has expired", "renew its certificate"),
    "early": ("certificate is not yet valid", "check the clocks"),
}


def shown(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """What a server with this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def its_own(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    """The same of an authority that shows itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = folder / "itself.pem"
    file.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    context.load_cert_chain(file)
    return context


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command, which trusts one authority by SSL_CERT_FILE, and a backend of each kind."""
    folder = tmp_path_factory.mktemp("certificates")
    hour = timedelta(hours=1)
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "authority.pem")
    contexts = {
        "good": shown(ours.issue_cert("127.0.0.1")),
        "unknown": shown(other.issue_cert("127.0.0.1")),
        "itself": its_own(other, folder),
        "name": shown(ours.issue_cert("elsewhere.example")),
        "address": shown(ours.issue_cert("192.0.2.1")),
        "expired": shown(ours.issue_cert("127.0.0.1", not_after=NOW - hour)),
        "early": shown(ours.issue_cert("127.0.0.1", not_before=NOW + hour)),
    }
    backends = {name: ScriptedBackend(context) for name, context in contexts.items()}
    text = config_text("http://127.0.0.1:1")
    for name, backend in backends.items():
        backend.says(streamed("Hello"))
        place = backend.url.replace("127.0.0.1", "localhost" if name == "name" else "127.0.0.1")
        entry = f'{{base_url: "{place}/v1"}}'
        text = text.replace("backends:\n", f"backends:\n  {name}: {entry}\n", 1)
        text = text.replace("models:\n", f"models:\n  claude-{name}: {{backend: {name}}}\n", 1)
    (folder / "pipelines.yaml").write_text(text)
    trusted = str(folder / "authority.pem")
    with command(folder / "pipelines.yaml", SSL_CERT_FILE=trusted) as running:
        yield running.url
    for backend in backends.values():
        assert not backend.requests or backend.tls is contexts["good"]
        backend.close()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = Client(url)
    yield made
    made.close()


def test_the_environment_adds_an_authority(client: Client) -> None:
    answer = client.post(body(model="claude-good", stream=True))
    assert answer.events[-1]["type"] == "message_stop"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", HINTS)
def test_an_invalid_certificate_is_reported_with_a_hint(
    name: str, stream: bool, client: Client
) -> None:
    answer = client.post(body(model=f"claude-{name}", stream=stream))
    assert answer.error == (500, "api_error")
    message = answer.json["error"]["message"]
    assert message.startswith(f"backend `{name}` cannot be trusted: ")
    for words in HINTS[name]:
        assert words in message
