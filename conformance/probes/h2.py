"""h2.py HOST PORT AUTHORITY [HOST-FIELD] [--connect PROTOCOL]: HTTP/2 with prior knowledge over plain TCP, one request by hand.

--connect makes it an extended CONNECT (RFC 8441) for that protocol.
"""
import struct

import net


def literal(name, value):
    """A field without indexing, name and value as they are (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind, flags, stream, payload):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def main(arguments):
    extended = "--connect" in arguments
    protocol = arguments.pop() if extended else None
    host, port, authority, *rest = [one for one in arguments if one != "--connect"]
    fields = literal(":method", "CONNECT" if extended else "GET") + literal(":scheme", "http")
    fields += literal(":path", f"/{net.CANARY}") + literal(":authority", authority)
    if extended:
        fields += literal(":protocol", protocol)
    for name in rest:
        fields += literal("host", name)
    sock = net.dial(host, port)
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 0x05, 1, fields))
    answer = net.read_some(sock)
    print(answer[:200])
    return 0 if answer else 1


net.run(main)
