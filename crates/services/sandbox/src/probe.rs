//! What this machine can enforce.

use std::fs;
use std::io;

/// The likely reason why new namespaces were refused here, and what to do about it.
pub(crate) fn why_no_namespaces(error: &io::Error) -> String {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return "user namespaces are turned off: as root run `sysctl -w user.max_user_namespaces=15000`".to_owned();
    }
    format!("the kernel said: {error}; run `cofferdam doctor`")
}
