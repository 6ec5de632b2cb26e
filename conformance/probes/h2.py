"""h2.py HOST PORT AUTHORITY [OPTION…]: HTTP/2 by hand, one request; by prior knowledge, or inside TLS.

  --tls NAME          inside TLS to NAME
  --host NAME         a Host field too
  --field NAME VALUE  another field, as it is
  --set NAME VALUE    another value of a pseudo-field; an empty one leaves it out
  --body TEXT         a body; `--short` says a content-length of 0
  --then AUTHORITY    a second request for it, on a second stream
  --connect PROTOCOL  an extended CONNECT (RFC 8441) for that protocol
"""
import struct

import net

HEADERS, SETTINGS, DATA = 1, 4, 0
END_STREAM, END_HEADERS = 1, 4


def sized(data):
    """A string literal: its length in a prefix of 7 bits (RFC 7541, 5.1 and 5.2)."""
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, coded = len(data) - 127, b"\x7f"
    while length > 127:
        coded += bytes([length & 127 | 128])
        length >>= 7
    return coded + bytes([length]) + data


def literal(name, value):
    """A field without indexing, name and value as they are (RFC 7541, 6.2.2)."""
    return b"\x00" + sized(net.text(name)) + sized(net.text(value))


def frame(kind, flags, stream, payload):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def options(arguments):
    """The options, and what is none."""
    counts = {"--tls": 1, "--host": 1, "--field": 2, "--set": 2, "--body": 1, "--short": 0, "--then": 1, "--connect": 1}
    found, rest = [], []
    while arguments:
        word = arguments.pop(0)
        if word in counts:
            found.append((word, [arguments.pop(0) for _ in range(counts[word])]))
        else:
            rest.append(word)
    return found, rest


def request(stream, authority, found):
    pseudo = {":method": "GET", ":scheme": "http", ":path": f"/{net.CANARY}", ":authority": authority}
    fields, body = b"", None
    for name, values in found:
        if name == "--tls":
            pseudo[":scheme"] = "https"
        elif name == "--host":
            fields += literal("host", values[0])
        elif name == "--field":
            fields += literal(*values)
        elif name == "--body":
            pseudo[":method"], body = "POST", net.text(values[0])
        elif name == "--short":
            fields += literal("content-length", "0")
        elif name == "--connect":
            pseudo[":method"], pseudo[":protocol"] = "CONNECT", values[0]
    pseudo.update({values[0]: values[1] for name, values in found if name == "--set"})
    block = b"".join(literal(name, value) for name, value in pseudo.items() if value) + fields
    flags = END_HEADERS | (END_STREAM if body is None and ":protocol" not in pseudo else 0)
    data = frame(HEADERS, flags, stream, block)
    return data if body is None else data + frame(DATA, END_STREAM, stream, body)


def main(arguments):
    found, (host, port, authority) = options(arguments)
    names = [values[0] for name, values in found if name == "--tls"]
    sock = net.dial(host, port)
    if names:
        sock = net.unchecked(["h2", "http/1.1"]).wrap_socket(sock, server_hostname=names[0])
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + request(1, authority, found)
    for name, values in found:
        if name == "--then":
            sent += request(3, values[0], found)
    sock.sendall(sent)
    answer = net.read_some(sock)
    print(answer[:2000])
    return 0 if answer else 1


net.run(main)
