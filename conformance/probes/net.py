"""What every probe needs: bounded sockets, three ways to dial, TLS without checks, ClientHellos by hand.

VIA says how to dial: `direct`; `connect` and `socks` through the proxy at LAB_PROXY, where a sandbox has one.
No probe decides whether it got out: what reached the lab's servers does.
"""
import os
import socket
import ssl
import struct
import sys
import time

TIME = 4.0
CANARY = os.environ.get("CANARY", "canary")
VIA = os.environ.get("VIA", "direct")


def proxy():
    """The explicit proxy's address."""
    host, port = os.environ["LAB_PROXY"].rsplit(":", 1)
    return socket.create_connection((host, int(port)), TIME)


def read_until(sock, end, most=65536, step=4096):
    data = b""
    while end not in data and len(data) < most:
        more = sock.recv(step)
        if not more:
            break
        data += more
    return data


def exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("ended early")
        data += more
    return data


def dial(host, port):
    """A stream to host:port by VIA; host may be any text, right or wrong."""
    if VIA == "direct":
        sock = socket.create_connection((host, int(port)), TIME)
    elif VIA == "connect":
        sock = proxy()
        authority = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        sock.sendall(text(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"))
        # Not a byte more: a server that speaks first may have spoken already.
        answer = read_until(sock, b"\r\n\r\n", step=1)
        if b" 200 " not in answer.split(b"\r\n")[0] + b" ":
            raise OSError(f"the proxy refused: {answer[:300]!r}")
    elif VIA == "socks":
        sock = proxy()
        sock.sendall(b"\x05\x01\x00")
        if sock.recv(2) != b"\x05\x00":
            raise OSError("no SOCKS5 here")
        sock.sendall(b"\x05\x01\x00" + socks_address(host) + struct.pack("!H", int(port)))
        answer = exactly(sock, 4)
        if answer[1] != 0:
            raise OSError(f"the proxy refused: {answer!r}")
        exactly(sock, 2 + (4 if answer[3] == 1 else 16))
    else:
        raise ValueError(VIA)
    sock.settimeout(TIME)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def socks_address(host):
    bare = host.strip("[]")
    try:
        return b"\x01" + socket.inet_pton(socket.AF_INET, bare)
    except OSError:
        pass
    try:
        return b"\x04" + socket.inet_pton(socket.AF_INET6, bare)
    except OSError:
        name = text(host)[:255]
        return b"\x03" + bytes([len(name)]) + name


def text(argument):
    """An argument's bytes; U+2400 stands for NUL, which no argument can hold."""
    return argument.replace("\u2400", "\0").encode("utf-8", "surrogateescape")


def read_some(sock, wait=1.5, pause=0.2):
    """What comes until the other side ends, or pauses after it began, or does not begin."""
    sock.settimeout(wait)
    data = b""
    try:
        while len(data) < 1 << 20:
            more = sock.recv(65536)
            if not more:
                break
            data += more
            sock.settimeout(pause)
    except (TimeoutError, ConnectionError, OSError):
        pass
    return data


def unchecked(alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def checked():
    return ssl.create_default_context(cafile=os.environ.get("LAB_CA_FILE"))


def hello_bytes(name, alpn=()):
    """A real client's ClientHello for this name."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = unchecked(alpn).wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def extension(kind, body):
    return struct.pack("!HH", kind, len(body)) + body


def sni_extension(names):
    entries = b"".join(bytes([kind]) + struct.pack("!H", len(name)) + name for kind, name in names)
    return extension(0, struct.pack("!H", len(entries)) + entries)


def hand_made(names, more=b"", padding=0):
    """A whole handshake message; `names` are (type, bytes) of the server_name list, None for no such extension."""
    extensions = b"" if names is None else sni_extension(names)
    extensions += extension(10, struct.pack("!HHH", 4, 0x1D, 0x17))
    extensions += extension(13, struct.pack("!HHHH", 6, 0x0403, 0x0804, 0x0401))
    extensions += extension(43, b"\x04\x03\x04\x03\x03")
    extensions += extension(51, struct.pack("!HHH", 36, 0x1D, 32) + os.urandom(31) + b"\x01")
    extensions += extension(11, b"\x01\x00")
    extensions += more
    while padding > 0:
        # No one extension is longer than 65,535 bytes; unknown ones must be skipped.
        size = min(padding, 16000)
        extensions += extension(0x7A00 + padding // 16000, bytes(size))
        padding -= size
    body = b"\x03\x03" + os.urandom(32) + b"\x20" + os.urandom(32)
    suites = struct.pack("!HHHHH", 0x1301, 0x1302, 0xC02B, 0xC02F, 0x00FF)
    body += struct.pack("!H", len(suites)) + suites + b"\x01\x00"
    body += struct.pack("!H", len(extensions) & 0xFFFF) + extensions
    return b"\x01" + struct.pack("!I", len(body))[1:] + body


def records(message, sizes=None):
    """The message in TLS records: of these sizes, then whole."""
    out = b""
    sizes = list(sizes or [])
    while message:
        size = min(sizes.pop(0) if sizes else 16384, len(message), 16384)
        out += b"\x16\x03\x01" + struct.pack("!H", size) + message[:size]
        message = message[size:]
    return out


def send_cut(sock, data, cuts, pause=0.0):
    """Sends data in pieces cut at these places, each its own segment."""
    before = 0
    for cut in [*cuts, len(data)]:
        if cut > before:
            sock.sendall(data[before:cut])
            before = cut
            if pause:
                time.sleep(pause)


def run(main):
    """Runs a probe: an error is told on standard error and in the exit code, never as a traceback."""
    try:
        code = main(sys.argv[1:])
    except Exception as error:  # a blocked way out has many names
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    sys.exit(code or 0)
