"""flood.py COUNT NAME: COUNT connections to allowed.test that each say half a ClientHello and stay, then a whole one for
NAME; exit 0 where that was answered."""
import resource
import socket

import net


def main(arguments):
    count, name = int(arguments[0]), arguments[1]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address = socket.gethostbyname("allowed.test")
    half = net.hello_bytes("allowed.test")[:100]
    held = []
    for _ in range(count):
        try:
            sock = socket.create_connection((address, 443), net.TIME)
            sock.sendall(half)
            held.append(sock)
        except OSError as error:
            print(f"{len(held)}: {error}")
            break
    with net.dial(name, 443) as sock:
        sock.sendall(net.hello_bytes(name))
        return 0 if net.read_some(sock).startswith(b"\x16") else 1


net.run(main)
