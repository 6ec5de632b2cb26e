//! HTTPS and SVCB records (RFC 9460), cleaned for the sandbox.
//!
//! What goes through is a short list: `alpn` without HTTP/3, `no-default-alpn`, `port`. Address hints would be
//! addresses that nobody checked, `ech` would hide a name from the ClientHello reader, HTTP/3 is refused on the
//! wire anyway, and a key this build does not know may be any of these. A record that makes a removed key
//! mandatory, that is an alias, or that leads to another name is dropped: a client falls back to the address
//! records, which are checked.

use hickory_proto::rr::{
    Name,
    rdata::{
        SVCB,
        svcb::{SvcParamKey, SvcParamValue},
    },
};

/// Whether the record carries an ECH configuration.
pub(super) fn carries_ech(binding: &SVCB) -> bool {
    binding.svc_params.iter().any(|(key, _)| *key == SvcParamKey::EchConfigList)
}

/// The record's data without what must not be learnt from it, or nothing where no use is left in it.
pub(super) fn cleaned(binding: &SVCB, asked: &Name, owner: &Name) -> Option<Vec<u8>> {
    let target = &binding.target_name;
    let own = target.is_root() || target == asked || target == owner;
    if binding.svc_priority == 0 || !own {
        return None;
    }
    let mut kept: Vec<(u16, Vec<u8>)> = Vec::new();
    let mut alpn_emptied = false;
    for (key, value) in &binding.svc_params {
        match value {
            SvcParamValue::Alpn(alpn) => {
                let data = protocols(&alpn.0);
                alpn_emptied = data.is_empty();
                if !alpn_emptied {
                    kept.push((u16::from(*key), data));
                }
            }
            SvcParamValue::Port(port) => kept.push((u16::from(*key), port.to_be_bytes().to_vec())),
            SvcParamValue::NoDefaultAlpn => kept.push((u16::from(*key), Vec::new())),
            SvcParamValue::Mandatory(mandatory) => {
                let known = [SvcParamKey::Alpn, SvcParamKey::NoDefaultAlpn, SvcParamKey::Port];
                if !mandatory.0.iter().all(|key| known.contains(key)) {
                    return None;
                }
            }
            _ => {}
        }
    }
    let no_default = u16::from(SvcParamKey::NoDefaultAlpn);
    if alpn_emptied && kept.iter().any(|(key, _)| *key == no_default) {
        return None;
    }
    kept.sort_by_key(|(key, _)| *key);
    let mut data = binding.svc_priority.to_be_bytes().to_vec();
    // The root: the effective target is the owner, whose addresses the sandbox asks us for.
    data.push(0);
    for (key, value) in kept {
        data.extend_from_slice(&key.to_be_bytes());
        data.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        data.extend_from_slice(&value);
    }
    Some(data)
}

/// The protocols but HTTP/3, each behind its length.
fn protocols(all: &[String]) -> Vec<u8> {
    let mut data = Vec::new();
    for protocol in all.iter().filter(|protocol| !(*protocol == "h3" || protocol.starts_with("h3-"))) {
        if let Ok(length @ 1..) = u8::try_from(protocol.len()) {
            data.push(length);
            data.extend_from_slice(protocol.as_bytes());
        }
    }
    data
}
