"""dns.py SERVER NAME TYPE [--tcp] [--twist KIND] [--count N] [--then-connect PORT]: one question, by hand.

SERVER `system` is the first of resolv.conf. TYPE is a number. KIND:
  padding  the canary in an EDNS padding option       subnet  in a client subnet option
  two      allowed.test and NAME in one message       pipe    allowed.test, then NAME, in one TCP segment
  tail     the canary behind the message              class   class CHAOS
  long     COUNT questions with 40 random letters before NAME
  answer   the canary as an answer record of the question
With --tell, what the answer held goes to allowed.test in a plain request: `ech=`, `hint=`, `h3=`.
"""
import argparse
import random
import socket
import struct
import time

import net


def name_bytes(name):
    return b"".join(bytes([len(label)]) + label.encode("latin1") for label in name.strip(".").split(".")) + b"\x00"


def question(name, kind, klass=1, twist=None):
    number = random.randrange(65536)
    body = name_bytes(name) + struct.pack("!HH", kind, klass)
    counts = [1, 0, 0, 0]
    if twist == "two":
        body = name_bytes("allowed.test") + struct.pack("!HH", kind, 1) + body
        counts[0] = 2
    canary = net.CANARY.encode()
    if twist == "answer":
        body += b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 0, len(canary) + 1) + bytes([len(canary)]) + canary
        counts[1] = 1
    if twist in ("padding", "subnet"):
        option = struct.pack("!HH", 12, len(canary)) + canary
        if twist == "subnet":
            address = canary[:16].ljust(16, b"\x00")
            option = struct.pack("!HHHBB", 8, 20, 2, 128, 0) + address
        body += b"\x00" + struct.pack("!HHIH", 41, 1232, 0, len(option)) + option
        counts[3] = 1
    message = struct.pack("!HHHHHH", number, 0x0100, *counts) + body
    if twist == "tail":
        message += canary
    return message


def server(name):
    if name != "system":
        return name
    with open("/etc/resolv.conf", encoding="utf-8") as lines:
        return next(line.split()[1] for line in lines if line.startswith("nameserver"))


def ask(where, message, tcp):
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    if tcp:
        with socket.create_connection((where, 53), net.TIME) as sock:
            sock.sendall(message)
            return net.read_some(sock, 1.0)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.5)
        sock.sendto(message, (where, 53))
        try:
            return sock.recv(65535)
        except OSError:
            return b""


def tell(answer):
    """What an answer held that it should not have, to a place that may be told."""
    found = []
    if b"cloudflare-ech.com" in answer:
        found.append("ech=present")
    if socket.inet_aton("198.51.100.66") in answer:
        found.append("hint=present")
    if b"\x02h3" in answer:
        found.append("h3=present")
    with socket.create_connection(("allowed.test", 80), net.TIME) as sock:
        sock.sendall(f"GET /answer?{'&'.join(found)} HTTP/1.1\r\nHost: allowed.test\r\n\r\n".encode())
        net.read_some(sock, 0.5)


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("name")
    parser.add_argument("type", type=int)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--twist")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--tell", action="store_true")
    given = parser.parse_args(arguments)
    where = server(given.server)
    if given.twist == "long":
        return flood(where, given)
    klass = 3 if given.twist == "class" else 1
    message = question(given.name, given.type, klass, given.twist)
    if given.tcp or given.twist == "pipe":
        framed = struct.pack("!H", len(message)) + message
        if given.twist == "pipe":
            first = question("allowed.test", 1)
            framed = struct.pack("!H", len(first)) + first + framed
        answer = ask(where, framed, True)
    else:
        answer = ask(where, message, False)
    print(answer.hex())
    if given.tell:
        tell(answer)
    return 0 if answer else 1


def flood(where, given):
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    begun = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        for _ in range(given.count):
            label = "".join(random.choice(letters) for _ in range(40))
            sock.sendto(question(f"{label}.{given.name}", given.type), (where, 53))
            try:
                sock.recv(4096)
            except OSError:
                pass
            if time.monotonic() - begun > 20:
                break
    return 0


if __name__ == "__main__":
    net.run(main)
