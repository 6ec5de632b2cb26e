//! What becomes of a WebSocket's handshake: once the server agreed, its frames go both ways as they are.

use std::{rc::Rc, sync::Arc};

use http::Response;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use super::{
    body::Answer,
    connection::Connection,
    head,
    strict::Heads,
    under_way::{Side, UnderWay},
};

/// Passes the agreement on, and then the frames until either side ends or a new policy denies the handshake.
pub(super) fn relay(
    connection: &Rc<Connection>,
    under_way: Rc<UnderWay>,
    response: Response<Incoming>,
    client: OnUpgrade,
    heads: &Arc<Heads>,
) -> Response<Answer> {
    let mut response = response;
    let server = hyper::upgrade::on(&mut response);
    heads.answer_upgrade(true);
    let whole = Rc::clone(connection);
    let relaying = async move {
        let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        tokio::select! {
            biased;
            () = std::future::poll_fn(|cx| under_way.poll_cut(Side::Down, cx)) => whole.cut_by_policy(),
            // However it ends, both sides are closed.
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        }
    };
    *connection.tunnel.borrow_mut() = Some(tokio::task::spawn_local(relaying));
    head::answer(response, |_| Answer::Own(None))
}
