//! The operating system's keyring: the Secret Service API of freedesktop.org, over the caller's session bus.
//!
//! The entry is looked up by the attributes `service` and `username`, as `secret-tool` and Python's `keyring` store it. A keyring that
//! is locked is an error: asking for its password is not a gateway's business.

use std::collections::HashMap;

use values::Secret;
use zbus::{Connection, DBusError as _, OwnedObjectPath, OwnedVariant, Variant, connection, fdo};

use super::Attempt;
use crate::{
    fault::{Fault, Problem},
    http::Asked,
};

const SERVICE: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const INTERFACE: &str = "org.freedesktop.Secret.Service";

const LOOKUP: Asked = Asked {
    provider: "the keyring",
    step: "looking up the entry",
    hint: "store it with `secret-tool store --label=NAME service SERVICE username ACCOUNT`, and keep the keyring unlocked",
};

/// Where a secret of the API is: its session, parameters of the session's algorithm, the value, its content type.
type Given = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// Looks up one entry.
pub(super) fn lookup(service: &str, account: &str, attempt: &Attempt<'_>) -> Result<Secret, Fault> {
    let fault = |problem| LOOKUP.fault(format!("service {service}, username {account}"), problem);
    let address = match attempt.surroundings.variable("DBUS_SESSION_BUS_ADDRESS") {
        Some(address) => address.to_owned(),
        None => match attempt.surroundings.variable("XDG_RUNTIME_DIR") {
            Some(folder) => format!("unix:path={folder}/bus"),
            None => {
                let what = "no session bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set".to_owned();
                return Err(fault(Problem::Unfit(what)));
            }
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fault(Problem::Io(error)))?;
    let time = attempt.left().min(attempt.surroundings.patience.call);
    let found = runtime.block_on(async { tokio::time::timeout(time, ask(&address, service, account)).await });
    match found {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(problem)) => Err(fault(problem)),
        Err(_) => Err(fault(Problem::Slow(time))),
    }
}

async fn ask(address: &str, service: &str, account: &str) -> Result<Secret, Problem> {
    let bus = connection::Builder::address(address).build().await.map_err(|error| of_bus(&error))?;
    let secret = ask_on(&bus, service, account).await;
    // The session that was opened ends with the connection.
    let _ = bus.close().await;
    secret
}

async fn ask_on(bus: &Connection, service: &str, account: &str) -> Result<Secret, Problem> {
    // The bus is a socket of this user's own, so the value goes over it as it is.
    let (_, session): (OwnedVariant, OwnedObjectPath) = call(bus, "OpenSession", &("plain", Variant::from(""))).await?;
    let attributes = HashMap::from([("service", service), ("username", account)]);
    let (open, locked): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) = call(bus, "SearchItems", &(attributes,)).await?;
    let item = match (open.as_slice(), locked.is_empty()) {
        ([item], true) => item,
        ([], true) => return Err(Problem::Unfit("there is no such entry".to_owned())),
        ([], false) => return Err(Problem::Unfit("it is locked".to_owned())),
        (_, _) => return Err(Problem::Unfit("more than one entry has these attributes".to_owned())),
    };
    let mut secrets: HashMap<OwnedObjectPath, Given> = call(bus, "GetSecrets", &(vec![item], &session)).await?;
    let (_, _, value, _) =
        secrets.remove(item).ok_or_else(|| Problem::Unfit("the keyring doesn't give it out".to_owned()))?;
    let secret = Secret::new(value);
    if secret.is_empty() { Err(Problem::Unfit("it is empty".to_owned())) } else { Ok(secret) }
}

async fn call<B, T>(bus: &Connection, method: &str, body: &B) -> Result<T, Problem>
where
    B: serde::Serialize + zbus::DynamicType,
    T: serde::de::DeserializeOwned + zbus::Type,
{
    let answer = bus.call_method(Some(SERVICE), PATH, Some(INTERFACE), method, body).await;
    let answer = answer.map_err(|error| of_bus(&error))?;
    answer.body().deserialize().map_err(|_| Problem::Garbage("no answer of a Secret Service"))
}

/// The error's name, which is an identifier; its text is the service's own and is not told.
fn of_bus(error: &zbus::Error) -> Problem {
    match error {
        zbus::Error::FDO(error) => match **error {
            fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => {
                Problem::Unreachable("no keyring runs on the session bus".to_owned())
            }
            _ => Problem::Unfit(format!("the keyring answered {}", error.name())),
        },
        zbus::Error::MethodError(name, _, _) => Problem::Unfit(format!("the keyring answered {name}")),
        _ => Problem::Unreachable("the session bus doesn't answer".to_owned()),
    }
}
