"""The certificate by which a server speaks HTTPS itself, without a proxy before it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from parallel_hpo.errors import UsageError


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two files in PEM, as web servers take them."""

    chain_file: str
    """The server's certificate, and those between it and the root that its clients trust."""
    key_file: str
    """Its private key, without a password."""

    def check(self) -> None:
        """Raise UsageError where the server could not speak by it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A password would be asked for on a terminal, where there is one.
            context.load_cert_chain(self.chain_file, self.key_file, password=lambda: b"")
        except OSError as error:  # SSLError is one too
            where = f"--tls-certificate {self.chain_file} with --tls-key {self.key_file}"
            raise UsageError(
                f"{where}: {error.strerror or error};"
                " needed: a certificate and its private key without a password, each a file in PEM"
            ) from None


def certificate_of(chain: str | None, key: str | None) -> Certificate | None:
    """Return what two options name, where they do; UsageError: one of them is missing."""
    if chain is not None and key is not None:
        return Certificate(chain, key)
    if chain is None and key is None:
        return None
    raise UsageError("--tls-certificate and --tls-key go together: give both, or neither")
