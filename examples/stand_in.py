"""What the examples' servers share: a CA and a certificate for `host.cofferdam.internal` (by openssl), and a server on the
loopback of this machine that tells its port on standard output. In your own setting the server is the real one, and none of
this is needed.

A line of what was asked goes to FOLDER/asked: the example shows it at the end.
"""
import http.server
import os
import ssl
import subprocess
import sys

NAME = "host.cofferdam.internal"


def certificates(folder):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-x509", "-days", "2", "-subj", "/CN=an example's authority", "-out", "ca.pem", "-keyout", "ca.key"]
    openssl("req", *key, *authority, "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", *key, "-subj", f"/CN={NAME}", "-out", "server.csr", "-keyout", "server.key")
    with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
        file.write(f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by `self.reply`, and writes down what was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, text, kind="application/json"):
        data = text.encode() if isinstance(text, str) else text
        with open(os.path.join(self.server.folder, "asked"), "a", encoding="utf-8") as file:
            file.write(f"{self.command} {self.path} -> {status}\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def every(self):
        self.reply()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = every


def serve(handler):
    """Serves on a port of the loopback until it is ended."""
    folder = sys.argv[1]
    certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "server.pem"), os.path.join(folder, "server.key"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.folder = folder
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()
