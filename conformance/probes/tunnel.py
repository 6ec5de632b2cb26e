"""tunnel.py WAY COUNT ZONE: data in names under ZONE, each another one, by what the gateway resolves itself.

  connect  CONNECT or SOCKS (by VIA) to each name
  sni      each name as the server name of a ClientHello to allowed.test's address
  host     each name as the Host of a plain request to allowed.test's address
  hex      DNS questions with the data in hexadecimal digits
  labels   DNS questions with the data cut into labels of four letters
  tcp      DNS questions, many on one TCP connection
"""
import os
import socket
import struct
import time

import dns
import net


def letters(way):
    if way == "hex":
        return os.urandom(16).hex()
    if way == "labels":
        return ".".join(os.urandom(2).hex() for _ in range(8))
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[one & 31] for one in os.urandom(30))


def questions(way, count, zone):
    where = dns.server("system")
    if way == "tcp":
        with socket.create_connection((where, 53), net.TIME) as sock:
            for _ in range(count):
                message = dns.question(f"{letters(way)}.{zone}", 1)
                sock.sendall(struct.pack("!H", len(message)) + message)
                net.exactly(sock, struct.unpack("!H", net.exactly(sock, 2))[0])
                yield
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        for _ in range(count):
            sock.sendto(dns.question(f"{letters(way)}.{zone}", 1), (where, 53))
            try:
                sock.recv(4096)
            except OSError:
                pass
            yield


def flows(way, count, zone):
    address = None if way == "connect" else socket.gethostbyname("allowed.test")
    for _ in range(count):
        name = f"{letters(way)}.{zone}"
        try:
            if way == "connect":
                net.dial(name, 80).close()
            else:
                first = net.records(net.hand_made([(0, name.encode())]))
                if way == "host":
                    first = f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
                with net.dial(address, 443 if way == "sni" else 80) as sock:
                    sock.sendall(first)
                    sock.recv(1)
        except OSError:
            pass
        yield


def main(arguments):
    way, count, zone = arguments
    begun = time.monotonic()
    for _ in (questions if way in ("hex", "labels", "tcp") else flows)(way, int(count), zone):
        if time.monotonic() - begun > 15:
            break
    return 0


if __name__ == "__main__":
    net.run(main)
