"""rebind.py NAME PORT TIMES: resolves NAME afresh each time and sends a request to every address it got."""
import socket

import net


def main(arguments):
    name, port, times = arguments[0], int(arguments[1]), int(arguments[2])
    for _ in range(times):
        try:
            found = {one[4][0] for one in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}
        except OSError as error:
            print(error)
            continue
        for address in sorted(found):
            try:
                with socket.create_connection((address, port), 2.0) as sock:
                    sock.sendall(f"GET /{net.CANARY} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                    print(address, net.read_some(sock, 0.5)[:60])
            except OSError as error:
                print(address, error)


net.run(main)
