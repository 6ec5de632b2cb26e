"""streams.py ACTION HOST PORT [--tls]: exit 0 where the stream behaved.

  echo         100 MB up and down at once through a plain echo service
  half-close   sends, ends its half, then gets everything back
  many         200 requests on 20 connections at once, kept alive
  upload       32 MB in chunks, answered with their start
  idle         a connection that says nothing for 3 s between two requests
"""
import concurrent.futures
import socket
import sys
import threading
import time

import net

TLS = "--tls" in sys.argv


def echo(host, port):
    sock = net.dial(host, port)
    sock.settimeout(30)
    block, rounds = b"x" * 65536, 1600
    sender = threading.Thread(target=lambda: [sock.sendall(block) for _ in range(rounds)])
    sender.start()
    left = len(block) * rounds
    while left:
        came = sock.recv(1 << 20)
        if not came:
            raise OSError(f"{left} bytes missing")
        left -= len(came)
    sender.join()


def half_close(host, port):
    sock = net.dial(host, port)
    sock.sendall(b"y" * 100000)
    sock.shutdown(socket.SHUT_WR)
    if len(net.read_some(sock, 10, 10)) != 100000:
        raise OSError("bytes missing behind a half-close")


def dial(host, port):
    sock = net.dial(host, port)
    return net.checked().wrap_socket(sock, server_hostname=host) if TLS else sock


def get(sock, host, path="/"):
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = net.read_until(sock, b"\r\n\r\n")
    if b" 200 " not in answer:
        raise OSError(answer[:100])
    size = int(answer.lower().split(b"content-length:")[1].split()[0])
    got = len(answer.split(b"\r\n\r\n", 1)[1])
    while got < size:
        got += len(sock.recv(65536))


def many(host, port):
    def one(_):
        sock = dial(host, port)
        for _ in range(10):
            get(sock, host)
        sock.close()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))


def upload(host, port):
    sock = dial(host, port)
    sock.settimeout(30)
    sock.sendall(f"POST /up HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode())
    block = b"z" * 65536
    for _ in range(512):
        sock.sendall(b"10000\r\n" + block + b"\r\n")
    sock.sendall(b"0\r\n\r\n")
    if b" 200 " not in sock.recv(4096):
        raise OSError("refused")


def idle(host, port):
    sock = dial(host, port)
    get(sock, host)
    time.sleep(3)
    get(sock, host)


def main(arguments):
    action, host, port = arguments[:3]
    {"echo": echo, "half-close": half_close, "many": many, "upload": upload, "idle": idle}[action](host, port)
    sys.stdout.write("done\n")


net.run(main)
