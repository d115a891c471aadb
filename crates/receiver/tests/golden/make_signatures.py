#!/usr/bin/env python3
"""Makes the signatures that tests/signatures.rs checks, by other programs than the one that is tested: the standard
library of Python for HMAC, the command `openssl` for certificates and RSA. Run it in any directory; it writes to
`signatures/` beside itself. The private keys are made anew each time and never kept.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import subprocess
import tempfile

OUT = pathlib.Path(__file__).parent / "signatures"
MOMENT = 1795860000  # 2026-11-28T10:00:00Z


def vectors():
    """One signature of each kind, over bodies that are easily damaged on the way."""
    bodies = [
        b'{"version":"4"}',
        b'{\r\n  "a": 1.0,\t"b": "\\u00e4"}\n',
        "{\"a\": \"ä€😀\"}".encode(),
        b"\x00\xff\xfe not UTF-8 \x80",
        b"",
        b"x" * 500,
    ]
    secrets = [b"s", b"correct horse battery staple", bytes(range(1, 256)), b"k" * 64, b"k" * 65]
    for number, body in enumerate(bodies):
        secret = secrets[number % len(secrets)]
        code = lambda data, digest="sha256": hmac.new(secret, data, digest).hexdigest()
        moment = str(MOMENT).encode()
        for scheme, header, timestamp in [
            ("grafana", code(body), None),
            ("grafana", code(moment + b":" + body), MOMENT),
            ("pager-duty", "v1=" + code(body), None),
            ("sentry", code(body), None),
            ("flux", "sha256=" + code(body), None),
            ("flux", "sha512=" + code(body, "sha512"), None),
            ("generic", "sha256=" + code(moment + b"." + body), MOMENT),
        ]:
            yield {
                "scheme": scheme,
                "secret": secret.hex(),
                "body": body.hex(),
                "header": header,
                "timestamp": None if timestamp is None else str(timestamp),
            }


def openssl(*arguments, stdin=None, cwd=None):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, cwd=cwd, check=True, capture_output=True).stdout


class Authority:
    """A certificate authority in a directory that goes away."""

    def __init__(self, directory, name, issuer=None):
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir()
        (self.directory / "index.txt").write_text("")
        (self.directory / "serial").write_text(f"{int(hashlib.sha256(name.encode()).hexdigest()[:8], 16):08x}")
        self.name = name
        self.key, self.certificate = self.directory / "key.pem", self.directory / "cert.pem"
        openssl("genrsa", "-out", self.key, "2048")
        request = self.request(self.key, f"/O=Test/CN={name}")
        usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self.certificate.write_bytes(
            (issuer or self).sign(request, usage, "20260101000000Z", "20360101000000Z", own=issuer is None)
        )

    @staticmethod
    def request(key, subject):
        return openssl("req", "-new", "-key", key, "-subj", subject)

    def sign(self, request, extensions, start, end, own=False):
        (self.directory / "request.pem").write_bytes(request)
        (self.directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca=it\n[it]\n"
            f"database={self.directory}/index.txt\nserial={self.directory}/serial\nnew_certs_dir={self.directory}\n"
            "default_md=sha256\npolicy=any\nunique_subject=no\nx509_extensions=v3\n"
            "[any]\nO=optional\nCN=supplied\n"
            f"[v3]\nsubjectKeyIdentifier=hash\n{extensions}"
        )
        by = ["-selfsign"] if own else ["-cert", self.certificate]
        return openssl(
            "ca", "-batch", "-notext", "-config", self.directory / "ca.cnf", "-keyfile", self.key, *by,
            "-startdate", start, "-enddate", end, "-in", self.directory / "request.pem",
        )  # fmt: skip

    def leaf(self, label, dns, bits=2048, start="20260101000000Z", end="20360101000000Z"):
        key = self.directory / f"{label}.key"
        openssl("genrsa", "-out", key, bits)
        request = self.request(key, f"/CN={dns}")
        extensions = f"subjectAltName=DNS:{dns}\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\n"
        return key, self.sign(request, extensions, start, end)


def message(kind, region="eu-central-1", domain="amazonaws.com", **changes):
    topic = f"arn:aws:sns:{region}:111122223333:alarms"
    fields = {
        "Type": kind,
        "MessageId": "5f8a1c9e-0b42-5a7d-9f10-aaaabbbbcccc",
        "TopicArn": topic,
        "Message": '{"AlarmName":"checkout-5xx",\n"NewStateValue":"ALARM","ä":"\\u0000"}',
        "Timestamp": "2026-11-28T09:59:30.512Z",
        "SignatureVersion": "2",
        "SigningCertURL": f"https://sns.{region}.{domain}/SimpleNotificationService-0123456789abcdef.pem",
    }
    if kind != "Notification":
        fields["Token"] = "2336412f37"
        fields["SubscribeURL"] = (
            f"https://sns.{region}.{domain}/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336412f37"
        )
    fields.update(changes)
    return fields


SIGNED = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]


def sign(fields, key, digest="sha256"):
    names = [name for name in SIGNED if fields.get(name) is not None]
    if fields["Type"] == "Notification":
        names = [name for name in names if name not in ("Token", "SubscribeURL")]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names)
    signature = openssl("dgst", f"-{digest}", "-sign", key, stdin=text.encode())
    return {**fields, "Signature": base64.b64encode(signature).decode()}


def sns(write):
    with tempfile.TemporaryDirectory() as directory:
        root = Authority(directory, "root")
        issuer = Authority(directory, "issuer", root)
        stranger = Authority(directory, "stranger")
        write("root.pem", root.certificate.read_bytes())
        write("issuer.pem", issuer.certificate.read_bytes())
        key, leaf = issuer.leaf("usual", "sns.amazonaws.com")
        write("leaf.pem", leaf)
        for name, fields in {
            "notification": message("Notification", Subject="ALARM: \"checkout-5xx\""),
            "without-subject": message("Notification"),
            "subject-null": message("Notification", Subject=None),
            "confirmation": message("SubscriptionConfirmation"),
            "unsubscribed": message("UnsubscribeConfirmation"),
        }.items():
            write(f"{name}.json", sign(fields, key))
        write("version-1.json", sign(message("Notification", SignatureVersion="1"), key, "sha1"))
        write("sha1-as-2.json", sign(message("Notification"), key, "sha1"))
        regional, certificate = issuer.leaf("regional", "sns-signing.af-south-1.amazonaws.com")
        write("regional.pem", certificate)
        write("regional.json", sign(message("Notification", region="af-south-1"), regional))
        write("regional-elsewhere.json", sign(message("Notification"), regional))
        for name, by, arguments in [
            ("stranger", stranger, {"dns": "sns.amazonaws.com"}),
            ("other-name", issuer, {"dns": "sns.amazonaws.com.example.com"}),
            ("expired", issuer, {"dns": "sns.amazonaws.com", "end": "20261101000000Z"}),
            ("short-key", issuer, {"dns": "sns.amazonaws.com", "bits": 1024}),
        ]:
            other, certificate = by.leaf(name, **arguments)
            write(f"{name}.pem", certificate)
            write(f"{name}.json", sign(message("Notification"), other))


def main():
    (OUT / "sns").mkdir(parents=True, exist_ok=True)

    def write(name, content):
        if isinstance(content, dict):
            content = (json.dumps(content, indent=2) + "\n").encode()
        (OUT / "sns" / name).write_bytes(content)

    (OUT / "hmac.json").write_text(json.dumps(list(vectors()), indent=1) + "\n")
    sns(write)


main()
