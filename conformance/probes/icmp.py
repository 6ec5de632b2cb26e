"""icmp.py HOST [KIND]: an echo request with the canary, or `advertisement` (a router's), by every kind of socket that may send one."""
import socket
import struct

import net


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def main(arguments):
    host = arguments[0]
    advertisement = arguments[1:] == ["advertisement"]
    six = ":" in host
    payload = net.CANARY.encode().ljust(32, b"\x00")
    head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 7, 1)
    if advertisement:
        # RFC 4861, 4.2: a default router for half an hour; the kernel fills in the checksum.
        head, payload = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), b""
    packet = head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    sent = 0
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.sendto(packet, socket.getaddrinfo(host, 0)[0][4])
                sent += 1
        except OSError as error:
            print(f"{kind}: {error}")
    return 0 if sent else 1


net.run(main)
