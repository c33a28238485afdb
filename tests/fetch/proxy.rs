//! A TCP proxy in front of a broker, whose connections can go dead without a word, as those behind a firewall do.

use std::sync::{Arc, OnceLock};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    target: Arc<OnceLock<String>>,
    generation: watch::Sender<u32>,
}

impl Proxy {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(OnceLock::<String>::new());
        let generation = watch::Sender::new(0);
        let (to, made_in) = (Arc::clone(&target), generation.subscribe());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (to, mut generation) = (Arc::clone(&to), made_in.clone());
                let mine = *generation.borrow_and_update();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(to.get().unwrap()).await else { return };
                    let silenced = tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => false,
                        silenced = generation.wait_for(|now| *now != mine) => silenced.is_ok(),
                    };
                    if silenced {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { port, target, generation }
    }

    /// Where connections lead from now on.
    pub(crate) fn lead_to(&self, address: &str) {
        self.target.set(address.to_owned()).unwrap();
    }

    /// Nothing crosses today's connections any more, and nobody is told.
    pub(crate) fn silence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}
