"""The API's own authority, and the certificate by which clients know its server."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nsrun.api import credentials
from nsrun.api.credentials import Place

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 60
"""A certificate that ends sooner is made anew when the API starts."""
_LATE = timedelta(hours=1)
"""Clocks of clients may be behind."""
NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


class _Signer(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def prepared(place: Place, hosts: tuple[str, ...]) -> ssl.SSLContext:
    """What TLS needs, made where it is missing, too old or for other names.

    Args:
        place: where it lies.
        hosts: names and addresses by which clients reach the server.

    Raises:
        StepError: it cannot be written or read.
    """
    with credentials.opened(place):
        signer = _authority(place)
        names = _names(hosts)
        if not _fits(place, signer, names):
            _sign(place, signer, names)
        credentials.have_tokens(place)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(place.certificate, place.key)
        # One protocol: clients of Go ask for HTTP/2 and take HTTP/1.1.
        context.set_alpn_protocols(["http/1.1"])
        return context


def authority(place: Place) -> str:
    """The certificate that clients trust, made if there is none."""
    with credentials.opened(place):
        _authority(place)
        credentials.have_tokens(place)
    return (credentials.read(place.authority) or b"").decode()


def _authority(place: Place) -> _Signer:
    found = _loaded(credentials.read(place.authority), credentials.read(place.authority_key))
    if found is not None:
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"nsrun {socket.gethostname()[:40]}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate without its key would be trusted by clients and be of no use.
    credentials.write(place.authority_key, _private(key))
    credentials.write(place.authority, certificate.public_bytes(serialization.Encoding.PEM))
    return _Signer(certificate, key)


def _loaded(certificate: bytes | None, key: bytes | None) -> _Signer | None:
    """Both, if they are there, belong together and are valid for long enough."""
    if certificate is None or key is None:
        return None
    try:
        read = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
    except ValueError:
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or read.public_key() != private.public_key():
        return None
    if read.not_valid_after_utc < datetime.now(UTC) + timedelta(days=RENEW_DAYS):
        return None
    return _Signer(read, private)


def _names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([*NAMES, "127.0.0.1", "::1", socket.gethostname(), *hosts]):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host.isascii() and 0 < len(host) < 254:
                names.append(x509.DNSName(host))
        else:
            names.append(x509.IPAddress(address))
    return names


def _fits(place: Place, signer: _Signer, names: list[x509.GeneralName]) -> bool:
    found = _loaded(credentials.read(place.certificate), credentials.read(place.key))
    if found is None:
        return False
    try:
        found.certificate.verify_directly_issued_by(signer.certificate)
        has = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:
        return False
    return set(names) <= set(has)


def _sign(place: Place, signer: _Signer, names: list[x509.GeneralName]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    of_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nsrun api")]))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE)
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(of_authority, critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    credentials.write(place.key, _private(key))
    credentials.write(place.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
