"""registries.py FOLDER: writes what package registries serve for one package each, `lab-thing` 1.0.0, into FOLDER.

They are reached at https://git.test/files/: pip `simple`, npm `npm`, cargo `index`, apt `apt`, Go `go`, Terraform
`terraform`, and a cluster's version for kubectl `cluster`.
"""
import base64
import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile

BASE = "https://git.test/files"


def write(path, data):
    path = os.path.join(sys.argv[1], path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            archive.writestr(info, text)
    return out.getvalue()


def packed(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def pip():
    front = "lab_thing-1.0.0.dist-info/"
    wheel = zipped({
        "lab_thing.py": "said = 'from pip'\n",
        front + "METADATA": "Metadata-Version: 2.1\nName: lab-thing\nVersion: 1.0.0\n",
        front + "WHEEL": "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        front + "RECORD": f"lab_thing.py,,\n{front}METADATA,,\n{front}WHEEL,,\n{front}RECORD,,\n",
    })
    name = "lab_thing-1.0.0-py3-none-any.whl"
    write(f"wheels/{name}", wheel)
    write("simple/lab-thing/index.html", f'<html><a href="../../wheels/{name}#sha256={sha256(wheel)}">{name}</a></html>')


def npm():
    about = {"name": "lab-thing", "version": "1.0.0", "main": "index.js"}
    archive = packed({"package/package.json": json.dumps(about), "package/index.js": "module.exports = 'from npm'\n"})
    write("npm-archives/lab-thing-1.0.0.tgz", archive)
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {"tarball": f"{BASE}/npm-archives/lab-thing-1.0.0.tgz", "integrity": f"sha512-{digest}"}
    whole = {"name": "lab-thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**about, "dist": dist}}}
    write("npm/lab-thing", json.dumps(whole))


def cargo():
    about = '[package]\nname = "lab-thing"\nversion = "1.0.0"\nedition = "2021"\n'
    crate = packed({"lab-thing-1.0.0/Cargo.toml": about, "lab-thing-1.0.0/src/lib.rs": "//! From cargo.\n"})
    write("crates/lab-thing/1.0.0/download", crate)
    write("index/config.json", json.dumps({"dl": f"{BASE}/crates"}))
    line = {"name": "lab-thing", "vers": "1.0.0", "deps": [], "cksum": sha256(crate), "features": {}, "yanked": False}
    write("index/la/b-/lab-thing", json.dumps(line) + "\n")


def apt():
    package = b"!<arch>\nfrom apt\n"
    write("apt/lab-thing_1.0.0_all.deb", package)
    packages = (
        "Package: lab-thing\nVersion: 1.0.0\nArchitecture: all\nMaintainer: lab\n"
        f"Filename: ./lab-thing_1.0.0_all.deb\nSize: {len(package)}\nSHA256: {sha256(package)}\nDescription: a thing\n\n"
    )
    write("apt/Packages", packages)
    write(
        "apt/Release",
        f"Origin: lab\nDate: Sat, 21 Nov 2026 00:00:00 UTC\nSHA256:\n {sha256(packages.encode())} {len(packages)} Packages\n",
    )


def go():
    front = "lab.test/thing@v1.0.0/"
    module = "module lab.test/thing\n\ngo 1.19\n"
    write("go/lab.test/thing/@v/list", "v1.0.0\n")
    write("go/lab.test/thing/@v/v1.0.0.info", json.dumps({"Version": "v1.0.0", "Time": "2026-11-21T00:00:00Z"}))
    write("go/lab.test/thing/@v/v1.0.0.mod", module)
    write("go/lab.test/thing/@v/v1.0.0.zip", zipped({front + "go.mod": module, front + "thing.go": "package thing\n"}))


def terraform():
    provider = zipped({"terraform-provider-thing_v1.0.0": "#!/bin/sh\n"})
    write("terraform/lab.test/acme/thing/index.json", json.dumps({"versions": {"1.0.0": {}}}))
    archives = {platform: {"url": "thing.zip"} for platform in ("linux_amd64", "linux_arm64")}
    write("terraform/lab.test/acme/thing/1.0.0.json", json.dumps({"archives": archives}))
    write("terraform/lab.test/acme/thing/thing.zip", provider)


for make in (pip, npm, cargo, apt, go, terraform):
    make()
write("cluster/version", json.dumps({"major": "1", "minor": "30"}))
