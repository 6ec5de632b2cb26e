"""socks.py KIND HOST PORT: what SOCKS clients of every kind say to the proxy.

Exit 0 where what comes next is as it should be:
  password   a client that offers a user name and password alone: its request works
  either     one that offers both: it goes on without
  neither    one that offers GSSAPI alone: refused with 0xff
  bind       refused with 7           associate  UDP ASSOCIATE: refused with 7
  four       SOCKS4, and `four-a` 4a with a name: refused with 91
"""
import socket
import struct

import net


def connect(sock, host, port):
    sock.sendall(b"\x05\x01\x00" + net.socks_address(host) + struct.pack("!H", port))
    if net.exactly(sock, 10)[1] != 0:
        return False
    sock.sendall(f"GET /{net.CANARY} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return b" 200 " in net.read_some(sock)[:20]


def main(arguments):
    kind, host, port = arguments[0], arguments[1], int(arguments[2])
    with net.proxy() as sock:
        if kind in ("four", "four-a"):
            address = b"\x00\x00\x00\x01" if kind == "four-a" else socket.inet_aton(host)
            name = host.encode() + b"\x00" if kind == "four-a" else b""
            sock.sendall(b"\x04\x01" + struct.pack("!H", port) + address + b"user\x00" + name)
            return 0 if net.exactly(sock, 2) == b"\x00\x5b" else 1
        methods = {"password": b"\x02", "either": b"\x02\x00", "neither": b"\x01"}.get(kind, b"\x00")
        sock.sendall(b"\x05" + bytes([len(methods)]) + methods)
        answer = net.exactly(sock, 2)
        if kind == "neither":
            return 0 if answer == b"\x05\xff" else 1
        if kind == "password":
            sock.sendall(b"\x01\x04user\x06secret")
            if answer != b"\x05\x02" or net.exactly(sock, 2) != b"\x01\x00":
                return 1
        elif answer != b"\x05\x00":
            return 1
        if kind in ("password", "either"):
            return 0 if connect(sock, host, port) else 1
        command = {"bind": b"\x05\x02\x00", "associate": b"\x05\x03\x00"}[kind]
        sock.sendall(command + net.socks_address(host) + struct.pack("!H", port))
        return 0 if net.exactly(sock, 2) == b"\x05\x07" else 1


net.run(main)
