//! Groups.

use policy::{
    HostPattern,
    model::{Feed, FeedFormat, Group, Provider, ServiceTag},
};
use values::{GroupName, LabelSelector};

use super::{
    Converter,
    parts::{self, Breadth},
    problem::Problem,
};
use crate::{place::Place, wire};

impl<'f> Converter<'f> {
    pub(super) fn all_groups(&mut self, spec: &Place<'_>) {
        let place = spec.key("groups");
        for (name, written) in &self.written.groups {
            let place = place.key(name);
            let group = self.group(written, &place, Some(name));
            if name == "any" {
                let what = "`any` stands for everything and can't name a group".to_owned();
                self.report(&place, Problem::Contradiction { what, hint: None });
            }
            if let Some(name) = self.take(&place, parts::name(name, GroupName::new)) {
                self.spec.groups.insert(name, group);
            }
        }
    }

    /// A group; `named` where it stands under `groups`, and whether its wildcards are too wide is up to its users.
    pub(super) fn group(&mut self, written: &wire::Group, place: &Place<'_>, named: Option<&str>) -> Group {
        let mut group = Group::default();
        if let Some(sandboxes) = &written.sandboxes {
            let place = place.key("sandboxes");
            for (index, labels) in sandboxes.as_slice().iter().enumerate() {
                if labels.is_empty() {
                    let what = "no label is named, so every sandbox matches".to_owned();
                    let hint = Some("name a label, or write `from: any` in the rule");
                    self.report(&place.index(index), Problem::Contradiction { what, hint });
                }
                group.sandboxes.push(LabelSelector(labels.clone()));
            }
        }
        group.hosts = self.group_hosts(&written.hosts, &place.key("hosts"), named);
        group.urls = self.urls(&written.urls, &place.key("urls"));
        group.cidrs = self.each(&written.cidrs, &place.key("cidrs"), parts::cidr);
        group.service_tag =
            written.service_tag.as_ref().and_then(|tag| self.service_tag(tag, &place.key("serviceTag")));
        group.feed = written.feed.as_ref().and_then(|feed| self.feed(feed, &place.key("feed")));
        let source = written.sandboxes.is_some();
        match (source, names_destinations(written)) {
            (true, true) => {
                let what = "a group is of sandboxes or of destinations, not of both".to_owned();
                self.report(place, Problem::Contradiction { what, hint: Some("make two groups of it") });
            }
            (false, false) => {
                let what = "this group is empty and matches nothing".to_owned();
                self.report(place, Problem::Contradiction { what, hint: Some("list `hosts`, `cidrs` or `sandboxes`") });
            }
            (true, false) | (false, true) => {}
        }
        group
    }

    fn group_hosts(&mut self, texts: &[String], place: &Place<'_>, named: Option<&str>) -> Vec<HostPattern> {
        let mut found = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let Some(pattern) = self.take(&place.index(index), parts::host(text)) else { continue };
            if pattern == HostPattern::Any || parts::breadth(&pattern) != Breadth::OneOwner {
                let group = named.unwrap_or_default().to_owned();
                self.broad.entry(group).or_default().push((index, pattern.clone()));
            }
            found.push(pattern);
        }
        found
    }

    fn urls(&mut self, texts: &[String], place: &Place<'_>) -> Vec<policy::model::UrlPattern> {
        self.each(texts, place, |text: &str| parts::url(text))
    }

    fn service_tag(&mut self, written: &wire::ServiceTag, place: &Place<'_>) -> Option<ServiceTag> {
        let (provider, file) = match written.provider {
            wire::Provider::Azure => (Provider::Azure, "service-tags/azure.json"),
            wire::Provider::Aws => (Provider::Aws, "service-tags/aws.json"),
            wire::Provider::Google => (Provider::Google, "service-tags/google.json"),
        };
        if written.name.trim().is_empty() {
            let what = "a service tag needs its name in the provider's file".to_owned();
            self.report(&place.key("name"), Problem::Contradiction { what, hint: None });
            return None;
        }
        let path = self.take(&place.key("path"), parts::file_path(written.path.as_deref().unwrap_or(file)))?;
        Some(ServiceTag { provider, name: written.name.clone(), path })
    }

    fn feed(&mut self, written: &wire::Feed, place: &Place<'_>) -> Option<Feed> {
        let path = self.take(&place.key("path"), parts::file_path(&written.path));
        let refresh = self.optional(&place.key("refresh"), written.refresh.as_ref(), parts::duration);
        let format = match written.format {
            wire::FeedFormat::Hosts => FeedFormat::Hosts,
            wire::FeedFormat::Domains => FeedFormat::Domains,
            wire::FeedFormat::Cidrs => FeedFormat::Cidrs,
            wire::FeedFormat::SpamhausDrop => FeedFormat::SpamhausDrop,
        };
        let feed = Feed { path: path?, format, refresh: refresh? };
        let known = *self.feeds.entry(feed.path.clone()).or_insert(format);
        if known != format {
            let what = format!("the feed {:?} has another format elsewhere in this file", feed.path);
            self.report(&place.key("format"), Problem::Contradiction { what, hint: None });
        }
        Some(feed)
    }
}

/// Whether any list of destinations is written.
pub(super) fn names_destinations(group: &wire::Group) -> bool {
    !group.hosts.is_empty()
        || !group.urls.is_empty()
        || !group.cidrs.is_empty()
        || group.service_tag.is_some()
        || group.feed.is_some()
}
