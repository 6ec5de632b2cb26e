"""websocket.py HOST PORT [--tls]: opens a WebSocket, sends text, a long binary frame in pieces and a ping; exit 0 where
all came back."""
import base64
import os
import struct

import net


def frame(first, payload):
    mask = os.urandom(4)
    size = len(payload)
    head = bytes([first, 0x80 | size]) if size < 126 else bytes([first, 0xFE]) + struct.pack("!H", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read_frame(sock):
    first, size = net.exactly(sock, 2)
    if size == 126:
        (size,) = struct.unpack("!H", net.exactly(sock, 2))
    return first, net.exactly(sock, size)


def main(arguments):
    host, port = arguments[:2]
    sock = net.dial(host, port)
    if "--tls" in arguments:
        sock = net.checked().wrap_socket(sock, server_hostname=host)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = net.read_until(sock, b"\r\n\r\n")
    if b" 101 " not in answer:
        raise OSError(answer[:200])
    long = os.urandom(60000)
    for first, payload in ((0x81, b"hello"), (0x82, long), (0x89, b"beat")):
        sock.sendall(frame(first, payload))
        came = read_frame(sock)
        if came[1] != payload:
            raise OSError(f"{len(came[1])} other bytes came back")
    sock.sendall(frame(0x88, b""))
    read_frame(sock)


net.run(main)
