//! apt: every site of its sources, one-line and deb822, from `apt-get indextargets`.

use url::Url;

use crate::{
    discover::{DiscoverError, Found, Manager},
    tool::Caller,
};

pub(crate) fn discover(caller: &Caller) -> Result<Found, DiscoverError> {
    let mut found = Found::new(Manager::Apt);
    for site in caller.ask("apt-get", &["indextargets", "--format", "$(SITE)"])?.lines() {
        // Sources on a disk or over ssh have no site that HTTP reaches.
        if let Ok(url) = Url::parse(site.trim()) {
            found.add_url(&url, "apt's sources");
        }
    }
    Ok(found)
}
