"""udp.py HOST PORT [TEXT]: one datagram; exit 0 where an answer came."""
import socket

import net


def main(arguments):
    host, port, *rest = arguments
    text = (rest[0] if rest else net.CANARY).encode()
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(1.0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(3):
            sock.sendto(text, address)
        try:
            print(sock.recv(65535)[:100])
        except TimeoutError:
            return 1
    return 0


net.run(main)
