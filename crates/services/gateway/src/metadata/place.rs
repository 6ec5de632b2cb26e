//! Where answers are given: addresses that are under the metadata guard, at the port of HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use policy::{HostName, Target, address, model::metadata_service::MetadataService};

/// HTTP's.
const PORT: u16 = 80;
/// Of a machine: AWS, Azure and Google Cloud.
const MACHINE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Of an instance of AWS.
const MACHINE_AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Of a machine of Google Cloud.
const MACHINE_GCP: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
/// Of a task of ECS.
const TASK: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// Of a pod of EKS.
const POD: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
/// The name of Google Cloud's.
const NAME: &str = "metadata.google.internal";

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A machine's: of all three clouds.
    Machine,
    /// An ECS task's.
    Task,
    /// An EKS pod's.
    Pod,
}

/// Where a connection of the sandbox goes, where that is a metadata service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which service.
    pub(super) kind: Kind,
    /// The address; that of a machine where the connection was made by name.
    pub(super) address: IpAddr,
}

impl Place {
    /// The place at an address, where the policy answers there.
    pub(crate) fn at(service: &MetadataService, to: SocketAddr) -> Option<Self> {
        let address = address::canonical(to.ip());
        let place = |kind, answers: bool| answers.then_some(Self { kind, address });
        match address {
            _ if to.port() != PORT => None,
            IpAddr::V4(MACHINE) => place(Kind::Machine, !service.is_empty()),
            IpAddr::V4(TASK) => place(Kind::Task, service.aws.is_some()),
            IpAddr::V4(POD) => place(Kind::Pod, service.aws.is_some()),
            IpAddr::V6(MACHINE_AWS) => place(Kind::Machine, service.aws.is_some()),
            IpAddr::V6(MACHINE_GCP) => place(Kind::Machine, service.gcp.is_some()),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// The place of a name, where the policy answers under it.
    pub(crate) fn named(service: &MetadataService, name: &HostName, port: u16) -> Option<Self> {
        let address = address_of(service, name)?;
        (port == PORT).then_some(Self { kind: Kind::Machine, address: address.into() })
    }

    /// The place of either.
    pub(crate) fn of(service: &MetadataService, target: &Target, port: u16) -> Option<Self> {
        match target {
            Target::Name(name) => Self::named(service, name, port),
            Target::Address(address) => Self::at(service, SocketAddr::new(*address, port)),
        }
    }

    /// Whether the policy still answers there.
    pub(super) fn is_answered(self, service: &MetadataService) -> bool {
        Self::at(service, SocketAddr::new(self.address, PORT)).is_some()
    }

    /// Whether a request's `Host` means this place: no name that leads here by some other DNS does.
    pub(super) fn is_meant_by(self, service: &MetadataService, host: &Target, port: Option<u16>) -> bool {
        let host = match host {
            Target::Address(address) => *address == self.address,
            Target::Name(name) => self.kind == Kind::Machine && address_of(service, name).is_some(),
        };
        host && port.is_none_or(|port| port == PORT)
    }
}

/// Whether an address is one of the answered, or could be carried to one.
pub(super) fn leads_to(service: &MetadataService, address: IpAddr) -> bool {
    let is_answered = |address| Place::at(service, SocketAddr::new(address, PORT)).is_some();
    !service.is_empty() && address::judged_addresses(address).into_iter().any(is_answered)
}

/// The address that a name stands for in the sandbox, where the policy answers under it.
pub(crate) fn address_of(service: &MetadataService, name: &HostName) -> Option<Ipv4Addr> {
    (service.gcp.is_some() && name.as_str() == NAME).then_some(MACHINE)
}
