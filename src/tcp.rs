//! A TCP connection to a name, whichever of its addresses answers.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

/// Connects with `TCP_NODELAY` within `within`, name lookup included; `address` is `host:port`.
///
/// # Errors
///
/// When the name has no address, or none of them answers: what the last one said.
pub(crate) async fn connect(address: &str, within: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + within;
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no TCP connection within {within:?}"));
    let addresses: Vec<_> = timeout_at(end, lookup_host(address)).await.map_err(|_| late())??.collect();
    let stream = connect_any(&addresses, end).await?.ok_or_else(late)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Tries the addresses in order, each for its even share of the time that is left, so that one that swallows packets
/// does not hide the next. `None` where the last one did not answer at all.
async fn connect_any(addresses: &[SocketAddr], end: Instant) -> io::Result<Option<TcpStream>> {
    let mut last = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (address, left) in addresses.iter().zip((1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev()) {
        let share = end.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Some(stream)),
            Ok(Err(error)) => last = Err(error),
            Err(_) => last = Ok(None),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good = listener.local_addr().expect("bound");
        // a listener whose queue is full swallows what comes after
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let silent = socket.listen(0).expect("listens");
        let deaf = silent.local_addr().expect("bound");
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(deaf)).await {
            held.push(stream);
        }
        let start = Instant::now();
        let found = connect_any(&[deaf, good], start + Duration::from_secs(2)).await.expect("no error");
        assert_eq!(found.expect("connected").peer_addr().expect("connected"), good);
        let none = connect_any(&[deaf], Instant::now()).await.expect("no error");
        assert!(none.is_none());
    }
}
