"""quic.py HOST PORT VERSION: a QUIC long-header packet padded to 1,200 bytes (RFC 9000, 14.1; RFC 9369 for 6b3343cf)."""
import os
import socket

import net


def main(arguments):
    host, port, version = arguments
    first = 0xD0 if version == "6b3343cf" else 0xC0
    packet = bytes([first]) + bytes.fromhex(version) + b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    packet += b"\x00\x44\x9e" + net.CANARY.encode()
    packet = packet.ljust(1200, b"\x00")
    family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(1.0)
        sock.sendto(packet, address)
        # Migration: the same connection from another port.
        with socket.socket(family, kind, protocol) as other:
            other.sendto(packet, address)
        try:
            sock.recv(2000)
        except TimeoutError:
            return 1
    return 0


net.run(main)
