"""split.py KIND ADDRESS PORT NAME: one message, cut at every place; exit 0 where every cut got an answer.

  hello-segments  a ClientHello cut into two segments at every byte
  hello-records   the same message cut into two TLS records at every byte
  hello-bytes     every byte its own record, and every byte its own segment
  head            a plain HTTP request's head, cut at every byte, and at 200 pairs of places
  dns             a DNS question over TCP, cut at every byte; ADDRESS is the server or `system`
  connect         a CONNECT request to the proxy, cut at every byte
  socks           a SOCKS5 greeting and request, cut at every byte

Every 32nd cut has a pause of 30 ms, all others of 1 ms. Cuts go one after another, each on its own connection.
"""
import random
import socket
import struct
import time

import net


def pause(cut):
    return 0.03 if cut % 32 == 0 else 0.001


def answered(sock):
    sock.settimeout(net.TIME)
    try:
        return len(sock.recv(5)) > 0
    except OSError:
        return False


def each(dial, pieces):
    """Sends each list of pieces on a connection of its own; counts the answered."""
    good = total = 0
    begun = time.monotonic()
    for cut, parts in enumerate(pieces):
        total += 1
        try:
            with dial() as sock:
                for part in parts:
                    sock.sendall(part)
                    time.sleep(pause(cut))
                good += answered(sock)
        except OSError:
            pass
        if time.monotonic() - begun > 100:
            break
    print(f"{good} of {total} answered")
    return 0 if good == total else 1


def two(data):
    return [[data[:cut], data[cut:]] for cut in range(1, len(data))]


def hello(kind, dial, name):
    data = net.hello_bytes(name)
    message = data[5:]
    if kind == "hello-segments":
        return each(dial, two(data))
    if kind == "hello-records":
        return each(dial, [[net.records(message, [cut])] for cut in range(1, len(message))])
    bytes_of_records = net.records(message, [1] * len(message))
    singles = [bytes([one]) for one in data]
    return each(dial, [[bytes_of_records], singles, [bytes([one]) for one in net.records(message, [7] * 10)]])


def head(dial, name):
    data = f"GET /split?{net.CANARY} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
    picked = random.Random(7)
    places = [sorted(picked.sample(range(1, len(data)), 2)) for _ in range(200)]
    return each(dial, two(data) + [[data[:a], data[a:b], data[b:]] for a, b in places])


def dns(address, name):
    if address == "system":
        with open("/etc/resolv.conf", encoding="utf-8") as lines:
            address = next(line.split()[1] for line in lines if line.startswith("nameserver"))
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    question = struct.pack("!HHHHHH", 99, 0x0100, 1, 0, 0, 0) + labels + b"\x00\x00\x01\x00\x01"
    return each(lambda: net.dial(address, 53), two(struct.pack("!H", len(question)) + question))


def through_proxy(kind, name, port):
    hello = net.hello_bytes(name)
    if kind == "connect":
        data = f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode()
        end = b"\r\n\r\n"
    else:
        data = b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name.encode() + struct.pack("!H", port)
        end = None
    good = 0
    for cut in range(1, len(data)):
        try:
            with net.proxy() as sock:
                net.send_cut(sock, data, [cut], pause(cut))
                answer = net.read_until(sock, end) if end else sock.recv(2) + sock.recv(64)
                if (b" 200 " in answer) if end else (len(answer) > 3 and answer[3] == 0):
                    sock.sendall(hello)
                    good += answered(sock)
        except OSError:
            pass
    print(f"{good} of {len(data) - 1} answered")
    return 0 if good == len(data) - 1 else 1


def main(arguments):
    kind, address, port, name = arguments
    if net.VIA == "direct" and address not in ("system", "proxy"):
        # One question: the matrix is not about DNS, whose rate is bounded.
        address = socket.gethostbyname(address)
    dial = lambda: net.dial(address, port)
    if kind.startswith("hello"):
        return hello(kind, dial, name)
    if kind == "head":
        return head(dial, name)
    if kind == "dns":
        return dns(address, name)
    return through_proxy(kind, name, int(port))


net.run(main)
