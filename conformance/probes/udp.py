"""udp.py HOST PORT [TEXT [HOST PORT]…]: one datagram; exit 0 where an answer came. The last pairs get one first, by
the same socket."""
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
        others = rest[1:]
        for name, number in zip(others[::2], others[1::2]):
            sock.sendto(b"first", socket.getaddrinfo(name, int(number), family, kind)[0][4])
        for _ in range(3):
            sock.sendto(text, address)
        try:
            print(sock.recv(65535)[:100])
        except TimeoutError:
            return 1
    return 0


net.run(main)
