"""tls.py HOST PORT SNI [--host NAME] [--hello KIND] [--alpn A,B] [--path P]: dials HOST, says SNI, asks for NAME.

Without --hello a whole TLS connection and one HTTP/1.1 request; with it only a hand-made ClientHello:
  none  no server name                 ip       the name is an address
  two   cdn-a.test and SNI             swapped  SNI and cdn-a.test
  twice two server_name extensions     type     one entry of an unknown type, then SNI
  empty an empty name                  nul      SNI with a NUL and more behind it
  big   20 KB of other extensions      huge     70 KB of them
  short a length that says less        long     a length that says more than comes
  ech   an encrypted_client_hello extension as with a real configuration
  sslv2 an SSLv2 hello                 alert    an alert record before the hello
  empty-records  empty handshake records before the hello
"""
import argparse
import os
import struct

import net


def hello(kind, name):
    host = [(0, name.encode("utf-8", "surrogateescape"))]
    allowed = (0, b"cdn-a.test")
    simple = {
        "plain": lambda: net.records(net.hand_made(host)),
        "none": lambda: net.records(net.hand_made(None)),
        "ip": lambda: net.records(net.hand_made(host)),
        "two": lambda: net.records(net.hand_made([allowed, *host])),
        "swapped": lambda: net.records(net.hand_made([*host, allowed])),
        "twice": lambda: net.records(net.hand_made([allowed], net.sni_extension(host))),
        "type": lambda: net.records(net.hand_made([(7, b"cdn-a.test"), *host])),
        "empty": lambda: net.records(net.hand_made([(0, b"")])),
        "nul": lambda: net.records(net.hand_made([(0, b"cdn-a.test\x00." + name.encode())])),
        "big": lambda: net.records(net.hand_made(host, padding=20000)),
        "huge": lambda: net.records(net.hand_made(host, padding=70000)),
        "alert": lambda: b"\x15\x03\x01\x00\x02\x01\x00" + net.records(net.hand_made(host)),
        "empty-records": lambda: b"\x16\x03\x01\x00\x00" * 40 + net.records(net.hand_made(host)),
    }
    if kind in simple:
        return simple[kind]()
    message = net.hand_made(host)
    if kind == "short":
        return net.records(b"\x01" + struct.pack("!I", len(message) - 44)[1:] + message[4:])
    if kind == "long":
        return net.records(b"\x01" + struct.pack("!I", len(message) + 100)[1:] + message[4:])
    if kind == "ech":
        # RFC 9849, 5: outer, HKDF-SHA256 and AES-128-GCM, config_id, enc, payload.
        body = b"\x00" + struct.pack("!HHB", 1, 1, 1) + struct.pack("!H", 32) + os.urandom(32)
        body += struct.pack("!H", 200) + os.urandom(200)
        return net.records(net.hand_made(host, net.extension(0xFE0D, body)))
    if kind == "sslv2":
        return b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + os.urandom(37)
    raise ValueError(kind)


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("sni")
    parser.add_argument("--host")
    parser.add_argument("--hello")
    parser.add_argument("--alpn", default="")
    parser.add_argument("--path", default="/")
    given = parser.parse_args(arguments)
    sock = net.dial(given.address, given.port)
    if given.hello:
        sock.sendall(hello(given.hello, given.sni))
        answer = net.read_some(sock)
        print(f"{len(answer)} bytes came")
        # A handshake record: the server has read the hello.
        return 0 if answer.startswith(b"\x16") else 1
    tls = net.unchecked([one for one in given.alpn.split(",") if one]).wrap_socket(
        sock, server_hostname=given.sni or None
    )
    request = f"GET {given.path}?{net.CANARY} HTTP/1.1\r\nHost: {given.host or given.sni}\r\nConnection: close\r\n\r\n"
    tls.sendall(request.encode())
    answer = net.read_some(tls)
    print(answer.decode("utf-8", "replace"))
    return 0 if b" 200 " in answer[:20] else 1


net.run(main)
