"""An S3-like store: keeps objects, and lets in whoever signed the request (AWS Signature Version 4) with its one key."""
import hashlib
import hmac
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import stand_in

OBJECTS = {}


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Store(stand_in.Handler):
    def signature_is_right(self, body):
        kind, _, rest = self.headers.get("Authorization", "").partition(" ")
        if kind != "AWS4-HMAC-SHA256":
            return False
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        key_id, day, region, service, last = parts["Credential"].split("/")
        content = self.headers.get("x-amz-content-sha256", "")
        if content not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            return False
        path, _, query = self.path.partition("?")
        pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
        coded = [(urllib.parse.quote(name, "-_.~"), urllib.parse.quote(value, "-_.~")) for name, value in pairs]
        names = parts["SignedHeaders"].split(";")
        fields = "".join(f"{name}:{' '.join(self.headers.get(name, '').split())}\n" for name in names)
        query = "&".join(f"{name}={value}" for name, value in coded)
        request = "\n".join([self.command, path, query, fields, ";".join(names), content])
        with open(os.path.join(self.server.folder, "secret-access-key"), encoding="utf-8") as file:
            key = ("AWS4" + file.read().strip()).encode()
        for part in (day, region, service, last):
            key = mac(key, part)
        scope = f"{day}/{region}/{service}/{last}"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers.get('x-amz-date')}\n{scope}\n{hashed}"
        right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return key_id == "AKIAIOSFODNN7EXAMPLE" and hmac.compare_digest(parts["Signature"], right)

    def reply(self):
        body = self.body()
        if not self.signature_is_right(body):
            return self.answer(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", "application/xml")
        if self.command == "PUT":
            OBJECTS[self.path] = body
            return self.answer(200, "")
        if self.path not in OBJECTS:
            return self.answer(404, "<Error><Code>NoSuchKey</Code></Error>", "application/xml")
        return self.answer(200, OBJECTS[self.path], "application/octet-stream")


stand_in.serve(Store)
