#![allow(unsafe_code)]
use sandbox::*;
fn main() {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut mounts = vec![Mount::system("/usr"), Mount::system("/etc/ld.so.cache"), Mount::Tmpfs{target:"/tmp".into(), size: 1<<28, mode:0o1777}];
    for l in ["bin","lib","lib64","sbin"] { mounts.push(Mount::Symlink{target: format!("/{l}").into(), to: format!("usr/{l}").into()}); }
    let cwd = std::env::current_dir().unwrap();
    mounts.push(Mount::own(&cwd, true));
    let root = unsafe { libc::geteuid() } == 0;
    let (uid,gid) = if root {(1000,1000)} else {unsafe{(libc::geteuid(), libc::getegid())}};
    let plan = Plan { hostname: "sandbox".into(), mounts, working_directory: cwd, command, environment: vec![("PATH".into(),"/usr/bin:/bin".into())], ports: Default::default(), limits: Default::default(), terminal: Terminal::Inherit, uid, gid };
    let spec = Spec { plan, limits: Default::default(), streams: Streams::Inherit };
    let t = std::time::Instant::now();
    match start(&spec) {
        Ok(s) => { let up = t.elapsed(); if std::env::var("V").is_ok() {eprintln!("{:?} enforced {:?} missing {:?}", up, s.enforced, s.missing);} let r = s.sandbox.run().unwrap(); let e = r.wait(); eprintln!("{e:?} {:?}", t.elapsed()); std::process::exit(e.code().into()) }
        Err(e) => { use std::error::Error; eprintln!("{e}: {:?} hint {:?}", e.source().map(|s| s.to_string()), e.hint()); std::process::exit(125) }
    }
}
