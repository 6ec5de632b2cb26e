"""change.py ACTION NAME [PORT]: what a change of the gateway does to what is open. The runner makes the change when
the pipe ready-CANARY is written to, and tells it by the file acted-CANARY.

  tls     a TLS connection; a request with the canary after the change
  plain   a plain request whose body goes on with the canary after the change
  again   a connection before and another one, with the canary, after the change
  denied  only the one after
  fresh   refused before the change, works after it; exit 0 where that is so
  kept    a TLS connection that stays allowed: requests before and after; exit 0 where both were answered
"""
import os
import time

import net


def change():
    with open(f"ready-{net.CANARY}", "w", encoding="utf-8") as pipe:
        pipe.write("now")
    until = time.monotonic() + 20
    while not os.path.exists(f"acted-{net.CANARY}"):
        if time.monotonic() > until:
            raise TimeoutError("nothing was changed")
        time.sleep(0.02)


def connect(name, port):
    return net.unchecked().wrap_socket(net.dial(name, port), server_hostname=name)


def get(sock, name, path):
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    return b" 200 " in net.read_some(sock)[:20]


def main(arguments):
    action, name, *rest = arguments
    port = int(rest[0]) if rest else 443
    if action == "plain":
        sock = net.dial(name, 80)
        sock.sendall(f"POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: 5000\r\n\r\nfirst".encode())
        change()
        sock.sendall(net.CANARY.encode() * 10)
        time.sleep(0.2)
        sock.sendall(net.CANARY.encode() * 10)
        return 0
    if action in ("again", "denied"):
        if action == "again" and not get(connect(name, port), name, "/before"):
            return 2
        change()
        return 0 if get(connect(name, port), name, f"/{net.CANARY}") else 1
    if action == "fresh":
        try:
            if get(connect(name, port), name, "/before"):
                return 2
        except OSError as error:
            print(f"before: {error}")
        change()
        return 0 if get(connect(name, port), name, f"/{net.CANARY}") else 1
    sock = connect(name, port)
    first = get(sock, name, "/before")
    change()
    second = get(sock, name, f"/{net.CANARY}")
    return 0 if first and second else 1


net.run(main)
