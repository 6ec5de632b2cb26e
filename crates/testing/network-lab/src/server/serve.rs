//! One namespace's servers: one tokio runtime, controls on standard input, what reached them on standard output.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket, UnixListener},
};

use super::{
    Control, Line, Plan,
    carried::{Carried, Stream},
    dns::Names,
    packets::Packets,
    proxy,
    recorder::Recorder,
    web::Web,
};
use crate::{
    reached::{Place, What},
    spec::{Server, Service},
};

pub(super) fn run(place: Place) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(place))
}

async fn serve(place: Place) -> Result<ExitCode> {
    let mut controls = BufReader::new(tokio::io::stdin()).lines();
    let plan = controls.next_line().await?.context("the plan")?;
    let plan: Plan = serde_json::from_str(&plan).context("the plan")?;
    let recorder = Recorder::new(place);
    // What reaches the host's own links are answers.
    let packets = if place == Place::Host { None } else { Some(Packets::watch(&recorder)?) };
    let mut scripts = Vec::new();
    for server in plan.spec.servers(place) {
        start(server, &plan, &recorder, &mut scripts)
            .await
            .with_context(|| format!("start {} in {}", server.name, place.name()))?;
    }
    recorder.line(&Line::Ready(place));
    while let Some(line) = controls.next_line().await? {
        match serde_json::from_str(&line).with_context(|| format!("a control: {line}"))? {
            Control::Fence(number) => {
                recorder.settle().await;
                packets.iter().for_each(Packets::drain);
                recorder.line(&Line::Fence(number, place));
            }
            Control::Name { place: meant, name, script } if meant == place => {
                for names in &scripts {
                    names.change(&name, &script);
                }
            }
            Control::Name { .. } => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(server: &Server, plan: &Plan, recorder: &Recorder, scripts: &mut Vec<Names>) -> Result<()> {
    let name: Arc<str> = server.name.as_str().into();
    let places: Vec<SocketAddr> = server
        .addresses
        .iter()
        .flat_map(|address: &IpAddr| server.ports.iter().map(|port| SocketAddr::new(*address, *port)))
        .collect();
    match &server.service {
        Service::Web(identity) | Service::WebHttp1(identity) | Service::WebMutual(identity) => {
            let http2 = !matches!(server.service, Service::WebHttp1(_));
            let mutual = matches!(server.service, Service::WebMutual(_));
            let web = Arc::new(Web::new(identity, http2, mutual, &plan.folder)?);
            listen(&places, &name, recorder, move |stream| {
                let web = web.clone();
                async move { web.visit(stream).await }
            })
            .await
        }
        Service::Echo => listen(&places, &name, recorder, |stream| echo(stream, String::new())).await,
        Service::Banner(text) => {
            let text = text.clone();
            listen(&places, &name, recorder, move |stream| echo(stream, text.clone())).await
        }
        Service::OpenProxy => listen(&places, &name, recorder, proxy::visit).await,
        Service::UdpEcho => udp_echo(&places, &name, recorder).await,
        Service::Dns(script) => {
            let names = Names::new(script);
            scripts.push(names.clone());
            for place in &places {
                names.serve_udp(UdpSocket::bind(place).await?, name.clone(), recorder.clone());
            }
            listen(&places, &name, recorder, move |stream| {
                let names = names.clone();
                async move { names.serve_tcp(stream).await }
            })
            .await
        }
        Service::Socket(path) => {
            let listener = bind_local(path, &plan.folder).with_context(|| format!("bind {}", path.display()))?;
            tokio::spawn(local(listener, name, recorder.clone()));
            Ok(())
        }
    }
}

/// Listens at a Unix socket: abstract where the path begins with `@`, in the lab's folder where it is relative.
fn bind_local(path: &Path, folder: &Path) -> Result<UnixListener> {
    let listener = match path.to_string_lossy().strip_prefix('@') {
        Some(name) => {
            use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
            std::os::unix::net::UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?
        }
        None => {
            let path = folder.join(path);
            let listener = std::os::unix::net::UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
            listener
        }
    };
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// A connection as a service gets it.
pub(super) type Connection = (Carried<TcpStream>, super::recorder::Visit);

async fn listen<F, R>(places: &[SocketAddr], name: &Arc<str>, recorder: &Recorder, service: F) -> Result<()>
where
    F: Fn(Connection) -> R + Clone + Send + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    for place in places {
        let listener = TcpListener::bind(place).await.with_context(|| format!("listen at {place}"))?;
        let (name, recorder, service) = (name.clone(), recorder.clone(), service.clone());
        tokio::spawn(async move {
            // An accept fails only for want of descriptors or an aborted connection: the next may do.
            loop {
                let Ok((stream, peer)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let _latency = stream.set_nodelay(true);
                let visit = recorder.visit(&name, stream.local_addr().ok(), Some(peer));
                visit.tell(What::Accepted);
                let stream = Carried::new(stream, &visit);
                let served = service((stream, visit));
                tokio::spawn(async move {
                    // A client that breaks off is no fault of the lab; what it sent is recorded.
                    let _broken_off = served.await;
                });
            }
        });
    }
    Ok(())
}

async fn echo((mut stream, _visit): Connection, banner: String) -> Result<()> {
    stream.write_all(banner.as_bytes()).await?;
    copy_back(&mut stream).await
}

/// Sends back what comes until it ends.
pub(super) async fn copy_back(stream: &mut impl Stream) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            stream.shutdown().await?;
            return Ok(());
        };
        stream.write_all(read).await?;
    }
}

async fn udp_echo(places: &[SocketAddr], name: &Arc<str>, recorder: &Recorder) -> Result<()> {
    for place in places {
        let socket = UdpSocket::bind(place).await?;
        let (name, recorder) = (name.clone(), recorder.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            loop {
                let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
                let data = buffer.get(..count).unwrap_or_default();
                recorder
                    .visit(&name, socket.local_addr().ok(), Some(peer))
                    .tell(What::Datagram { data: data.to_vec() });
                let _lost = socket.send_to(data, peer).await;
            }
        });
    }
    Ok(())
}

async fn local(listener: UnixListener, name: Arc<str>, recorder: Recorder) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let visit = recorder.visit(&name, None, None);
        visit.tell(What::Accepted);
        tokio::spawn(async move {
            let mut data = vec![0; super::recorder::KEPT];
            let count = stream.read(&mut data).await.unwrap_or(0);
            data.truncate(count);
            visit.tell(What::Local { data });
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK").await;
        });
    }
}
