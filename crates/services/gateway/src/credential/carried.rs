//! A secret for one request: named by its permit, obtained, its use recorded, and used up by attaching it.

use std::{rc::Rc, sync::Arc, time::Duration};

use audit_event::{CredentialUsed, Event};
use audit_log::Recorded;
use certificates::ClientCertificate;
use credentials::{
    Issued, Material, TokenId,
    sigv4::{Payload, Resigner},
};
use http::Request;
use hyper::body::Body as _;
use policy::{
    HostName, Permit,
    http_path::{self, PathGlob},
    model::credential::{Attach, Credential},
};
use secret_swap::{Placeholder, Swap};
use values::{CredentialName, Revision, Secret};
use wire::http_head::RequestHead;

use super::{
    AttachError, Keeper, Looking, RequestBody, Whole, attach,
    body::Signing,
    echo::{ask_for_what_can_be_read, is_call},
    no_secret::NoSecret,
};
use crate::{in_force::InForce, inspect::Arriving, shared::Shared, worker::Worker};

/// How long an agent's request for a new secret may hold up an answer that says 401.
const RENEWAL: Duration = Duration::from_secs(10);

/// A secret for one request. Only [`obtain`] and [`Carried::renewed`] make one, from a permit that names the credential
/// and the record of its use.
pub(crate) struct Carried {
    name: CredentialName,
    spec: Arc<Credential>,
    placeholder: Option<Placeholder>,
    issued: Arc<Issued>,
    /// What an AWS signature says of the body.
    payload: Option<Payload>,
    flow: u64,
    revision: Revision,
    host: HostName,
    _recorded: Recorded,
}

/// What is obtained for which request.
pub(crate) struct Wanted<'a> {
    pub(crate) permit: &'a Permit,
    pub(crate) in_force: &'a InForce,
    pub(crate) flow: u64,
    pub(crate) host: &'a HostName,
    pub(crate) head: &'a RequestHead,
}

/// What goes along with a request.
pub(crate) struct Along {
    /// The secret; none where no credential is named, or where the sandbox did not put its placeholder anywhere.
    pub(crate) secret: Option<Carried>,
    /// What the answer is looked through for.
    pub(crate) looking: Option<Looking>,
    /// Header fields that are for the secret alone: what the sandbox put there itself stays here.
    reserved: Vec<String>,
}

impl Along {
    /// Makes it part of the head of the request as it goes out.
    /// What signs the body's chunks is given back, where it comes in signed ones.
    pub(crate) fn put_into<B>(
        &self,
        head: &RequestHead,
        outgoing: &mut Request<B>,
    ) -> Result<Option<Resigner>, NoSecret> {
        if let Some(looking) = &self.looking {
            ask_for_what_can_be_read(outgoing.headers_mut(), looking);
        }
        for name in &self.reserved {
            attach::remove_field(outgoing.headers_mut(), name);
        }
        match &self.secret {
            Some(secret) => secret.attach(head, outgoing),
            None => Ok(None),
        }
    }

    /// The same with another secret.
    pub(crate) fn with(&self, secret: Carried) -> Self {
        Self { secret: Some(secret), looking: self.looking.clone(), reserved: Vec::new() }
    }
}

/// Obtains the secret that the permit names, and records that it is used.
pub(crate) async fn obtain(
    shared: &Shared,
    wanted: Wanted<'_>,
    body: Arriving,
) -> Result<(Along, RequestBody), NoSecret> {
    let policy = &wanted.in_force.policy;
    let looking = shared.keeper.as_ref().and_then(|keeper| keeper.looking(policy.spec(), wanted.host));
    let looking = looking.map(|looking| Looking { is_call: is_call(wanted.head), ..looking });
    let mut along = Along { secret: None, looking, reserved: Vec::new() };
    let Some(name) = wanted.permit.credential() else { return Ok((along, RequestBody::Streamed(body))) };
    let Some(keeper) = &shared.keeper else { return Err(NoSecret::NoKeeper(name.clone())) };
    let spec = policy.spec().credentials.get(name).ok_or_else(|| NoSecret::Unknown(name.clone()))?;
    if !is_bound(spec, wanted.host, wanted.head) {
        return Err(NoSecret::NotBound(name.clone(), wanted.host.clone()));
    }
    let placeholder = keeper.placeholders.get(name);
    let mut payload = None;
    let (sent, stands) = match attach::swap(&spec.attach, placeholder) {
        None => match &spec.attach {
            Attach::SigV4 { service, .. } => {
                let sent;
                (payload, sent) = said_of_body(keeper, name, service, wanted.head, body).await?;
                (sent, true)
            }
            attach => (RequestBody::Untrailed(body), !matches!(attach, Attach::Placeholder { .. })),
        },
        Some(swap) => look(keeper, swap, wanted.head, body).await?,
    };
    if !stands {
        along.reserved = attach::reserved(&spec.attach).to_vec();
        return Ok((along, sent));
    }
    let issued = keeper.credentials.obtain(name).await?;
    let carried = Carried::recorded(
        shared,
        keeper,
        Named {
            name: name.clone(),
            spec: Arc::new(spec.clone()),
            placeholder: placeholder.cloned(),
            payload,
            flow: wanted.flow,
            revision: policy.revision(),
            host: wanted.host.clone(),
        },
        issued,
    )
    .await?;
    let body = carried.put_into_body(wanted.head, sent)?;
    along.secret = Some(carried);
    Ok((along, body))
}

/// Whether a request as it goes out is one that the credential is bound to. The policy judged it as it came, by the name
/// that the flow was read by; what counts is who gets it, and what for.
fn is_bound(spec: &Credential, host: &HostName, head: &RequestHead) -> bool {
    let bind = &spec.bind;
    let path = || http_path::normalise(&head.origin_target());
    let covers =
        |path: &str| bind.paths.iter().filter_map(|glob| PathGlob::parse(glob).ok()).any(|glob| glob.matches(path));
    bind.hosts.iter().any(|bound| bound.matches(host))
        && (bind.methods.is_empty() || bind.methods.contains(&head.method))
        && (bind.paths.is_empty() || path().is_some_and(|path| covers(&path)))
}

/// What an AWS signature says of the body. One that has to be hashed is read within the bound.
async fn said_of_body(
    keeper: &Keeper,
    name: &CredentialName,
    service: &str,
    head: &RequestHead,
    body: Arriving,
) -> Result<(Option<Payload>, RequestBody), NoSecret> {
    let said = attach::payload(head, service, body.is_end_stream());
    match said.map_err(|error| NoSecret::Attach(name.clone(), error))? {
        Some(payload @ (Payload::Streaming | Payload::StreamingTrailer)) => {
            Ok((Some(payload), RequestBody::Resigned(Signing::of(body, &keeper.masks).await?)))
        }
        Some(payload @ (Payload::Sha256(_) | Payload::Unsigned | Payload::StreamingUnsignedTrailer)) => {
            Ok((Some(payload), RequestBody::Untrailed(body)))
        }
        None => {
            let whole = Whole::read(body, &keeper.masks).await?;
            Ok((Some(Payload::of_body(whole.bytes())), RequestBody::Whole(whole)))
        }
    }
}

/// Whether the placeholder stands anywhere in the request. A body in which it may is read.
async fn look(
    keeper: &Keeper,
    swap: Swap<'_>,
    head: &RequestHead,
    body: Arriving,
) -> Result<(RequestBody, bool), NoSecret> {
    let target = head.origin_target();
    let request = attach::request(head, &target);
    let itself = swap.placeholder.text().as_bytes();
    let in_head = swap.head(request, itself).found();
    if !swap.looks_at_body(request) {
        return Ok((RequestBody::Untrailed(body), in_head));
    }
    let whole = Whole::read(body, &keeper.masks).await?;
    let in_body = swap.body(request, whole.bytes(), itself).is_some();
    Ok((RequestBody::Whole(whole), in_head || in_body))
}

/// Whose secret, and for what.
struct Named {
    name: CredentialName,
    spec: Arc<Credential>,
    placeholder: Option<Placeholder>,
    payload: Option<Payload>,
    flow: u64,
    revision: Revision,
    host: HostName,
}

impl Carried {
    async fn recorded(shared: &Shared, keeper: &Keeper, named: Named, issued: Arc<Issued>) -> Result<Self, NoSecret> {
        let Named { name, spec, placeholder, payload, flow, revision, host } = named;
        let event = Event::CredentialUsed(CredentialUsed {
            flow,
            revision: revision.to_string(),
            credential: name.to_string(),
            host: host.to_string(),
            attach: attach::word(&spec.attach).to_owned(),
            token: issued.id.to_string(),
        });
        let recorded = shared.audit.record(event).await.map_err(NoSecret::Unrecorded)?;
        if !keeper.masks.learn(&name, &issued, placeholder.as_ref(), &host) {
            return Err(NoSecret::Masks);
        }
        Ok(Self { name, spec, placeholder, issued, payload, flow, revision, host, _recorded: recorded })
    }

    /// After a 401: the same request with another secret. `None` where there is none in time.
    pub(crate) async fn renewed(&self, shared: &Shared) -> Option<Self> {
        let keeper = shared.keeper.as_ref().filter(|keeper| keeper.masks.may_be_renewed(&self.name))?;
        let renewing = keeper.credentials.renew(&self.name, &self.issued.id);
        let issued = tokio::time::timeout(RENEWAL, renewing).await.ok()?.ok()?;
        if issued.id == self.issued.id {
            return None;
        }
        let named = Named {
            name: self.name.clone(),
            spec: Arc::clone(&self.spec),
            placeholder: self.placeholder.clone(),
            payload: self.payload.clone(),
            flow: self.flow,
            revision: self.revision,
            host: self.host.clone(),
        };
        Self::recorded(shared, keeper, named, issued).await.ok()
    }

    /// The next request gets another secret.
    pub(crate) fn renew_later(&self, worker: &Rc<Worker>) {
        let (worker, name, issued) = (Rc::clone(worker), self.name.clone(), Arc::clone(&self.issued));
        tokio::task::spawn_local(async move {
            if let Some(keeper) = &worker.shared.keeper
                && keeper.masks.may_be_renewed(&name)
            {
                // What fails is told to the request that needs it.
                let _ = keeper.credentials.renew(&name, &issued.id).await;
            }
        });
    }

    /// Whether a server that refuses the secret says so with 401.
    pub(crate) fn may_be_refused(&self) -> bool {
        match self.issued.material {
            Material::Text(_) => true,
            Material::Aws(_) | Material::Certificate { .. } => false,
        }
    }

    /// Whether a server that refuses it for its age says so in an error of AWS.
    pub(crate) fn may_expire(&self) -> bool {
        match self.issued.material {
            Material::Aws(_) => true,
            Material::Text(_) | Material::Certificate { .. } => false,
        }
    }

    /// What a connection that carried it is known by: it serves nobody else.
    pub(crate) fn key(&self) -> (CredentialName, TokenId) {
        (self.name.clone(), self.issued.id.clone())
    }

    /// What is shown to the server in the handshake.
    pub(crate) fn certificate(&self) -> Result<Option<ClientCertificate>, NoSecret> {
        match (&self.spec.attach, &self.issued.material) {
            (Attach::ClientCertificate, Material::Certificate { chain_pem, key_pem }) => {
                let made = ClientCertificate::from_pem(chain_pem, key_pem.expose());
                made.map(Some).map_err(|error| NoSecret::Certificate(self.name.clone(), error))
            }
            (Attach::ClientCertificate, Material::Text(_) | Material::Aws(_)) => {
                Err(NoSecret::Attach(self.name.clone(), AttachError::Kind))
            }
            (
                Attach::Bearer
                | Attach::Basic { .. }
                | Attach::Header { .. }
                | Attach::Query { .. }
                | Attach::Cookie { .. }
                | Attach::SigV4 { .. }
                | Attach::Placeholder { .. },
                _,
            ) => Ok(None),
        }
    }

    /// Puts it into the head of the request as it goes out.
    fn attach<B>(&self, head: &RequestHead, outgoing: &mut Request<B>) -> Result<Option<Resigner>, NoSecret> {
        let (attach, material) = (&self.spec.attach, &self.issued.material);
        let host = match head.authority.port {
            Some(port) => format!("{}:{port}", head.authority.host),
            None => head.authority.host.to_string(),
        };
        attach::attach(attach, material, self.placeholder.as_ref(), head, outgoing)
            .and_then(|()| attach::sign(attach, material, self.payload.as_ref(), &host, outgoing))
            .map_err(|error| NoSecret::Attach(self.name.clone(), error))
    }

    fn put_into_body(&self, head: &RequestHead, sent: RequestBody) -> Result<RequestBody, NoSecret> {
        let (Some(swap), RequestBody::Whole(whole)) =
            (attach::swap(&self.spec.attach, self.placeholder.as_ref()), &sent)
        else {
            return Ok(sent);
        };
        let refused = |error| NoSecret::Attach(self.name.clone(), error);
        let secret = text(&self.issued.material).ok_or_else(|| refused(AttachError::Kind))?;
        if swap.needs_text() && secret.expose_str().is_none() {
            return Err(refused(AttachError::Unfit));
        }
        let target = head.origin_target();
        let request = attach::request(head, &target);
        let swapped = swap.body(request, whole.bytes(), secret.expose());
        Ok(match swapped {
            Some(body) => RequestBody::Whole(whole.swapped(body.expose())),
            None => sent,
        })
    }
}

/// A token, a password, a key.
pub(super) fn text(material: &Material) -> Option<&Secret> {
    match material {
        Material::Text(secret) => Some(secret),
        Material::Aws(_) | Material::Certificate { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use policy::{
        HostName, HostPattern,
        model::credential::{Attach, Bind, Credential, Source, Stored},
    };
    use wire::http_head::{Head, read};

    use super::is_bound;

    #[test]
    fn what_goes_out_is_held_to_the_binding_whatever_decided() {
        let bind = Bind {
            hosts: vec![HostPattern::parse("web.test").unwrap()],
            methods: vec!["GET".to_owned()],
            paths: vec!["/api/**".to_owned()],
            ..Bind::default()
        };
        let source = Source::Stored(Stored::Env("TOKEN".to_owned()));
        let spec = Credential { source, attach: Attach::Bearer, bind, expose: None };
        for (host, line, expected) in [
            ("web.test", "GET /api/1?a=/", true),
            ("web.test", "GET /x/../api/1", true),
            ("other.test", "GET /api/1", false),
            ("web.test", "POST /api/1", false),
            ("web.test", "GET /apis", false),
            ("web.test", "GET /api/../x", false),
            ("web.test", "GET /api/..%2fx", false),
        ] {
            let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let Head::Complete(head, _) = read(text.as_bytes(), 4096, false) else { panic!("a head") };
            assert_eq!(is_bound(&spec, &HostName::parse(host).unwrap(), &head), expected, "{host} {line}");
        }
    }
}
