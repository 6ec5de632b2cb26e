//! Messages between the host and init.

use init_protocol::{FromInit, Plan, ToInit};
use serde::{Serialize, de::DeserializeOwned};

/// Any bytes as a message of either side.
pub(crate) fn messages(bytes: &[u8]) {
    again::<FromInit>(bytes);
    again::<ToInit>(bytes);
    again::<Plan>(bytes);
}

fn again<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<M>(bytes) {
        let written = serde_json::to_vec(&message).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<M>(&written).expect("what was written can be read"), message);
    }
}
