//! `postlane templates preview`: the templates in the browser, as they change.
//!
//! Owns the life of it: the folder is read anew whenever a file changes, and whoever looks is told. The pages are static files;
//! what is on them comes as JSON.

mod answers;
mod server;
mod watch;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use postlane::{config, template::Survey};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync,
};

use super::{
    super::{
        exit::Exit,
        runtime,
        terminal::{complain, print},
    },
    Source,
};
use answers::Preview;
use server::Hosts;

/// Where to show what.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane templates preview
  postlane templates preview --dir mail/templates --listen 127.0.0.1:8025
  # from a container, with its port published on this machine alone
  docker run --rm -v ./templates:/t:ro -p 127.0.0.1:8025:8025 postlane \\
    templates preview --dir /t --listen 0.0.0.0:8025 --allow-remote")]
pub(in crate::cli) struct Arguments {
    /// Where to listen; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Let it listen on an address that others can reach: they see the templates and may render them with data of their own
    #[arg(long)]
    allow_remote: bool,
    /// Name by which browsers may ask for it beside localhost and addresses; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    #[command(flatten)]
    source: Source,
}

/// What was read last; the version changes with it.
struct Snapshot {
    version: u64,
    survey: Survey,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let settings = match arguments.source.settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        complain(format_args!(
            "--listen {}: others can reach this address and see the templates; say --allow-remote if that is meant",
            arguments.listen
        ));
        return Exit::Usage;
    }
    let hosts = Hosts::new(arguments.allow_remote, &arguments.allow_host);
    match runtime::block_on(serve(arguments.listen, hosts, settings)) {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(error)) => {
            complain(format_args!("--listen {}: {error}", arguments.listen));
            Exit::Failed
        }
        Err(exit) => exit,
    }
}

/// Serves until a signal.
async fn serve(listen: SocketAddr, hosts: Hosts, settings: config::Mail) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let dir = settings.templates_dir.clone();
    let seen = watch::Seen::of(dir.as_deref());
    let (sender, receiver) =
        sync::watch::channel(Arc::new(Snapshot { version: 0, survey: Survey::load(dir.as_deref()) }));
    let what = dir.as_ref().map_or_else(|| "the built-in templates".to_owned(), |dir| dir.display().to_string());
    print(&format!("Preview of {what}: http://{address}/\nCtrl-C ends it.\n"), Exit::Done);
    let preview = Arc::new(Preview::new(settings, receiver));
    tokio::select! {
        () = server::run(listener, hosts, preview) => {}
        () = reload(dir, seen, sender) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Reads the folder anew whenever it has changed; runs for ever.
async fn reload(dir: Option<std::path::PathBuf>, mut seen: watch::Seen, sender: sync::watch::Sender<Arc<Snapshot>>) {
    loop {
        tokio::time::sleep(watch::INTERVAL).await;
        let looked = dir.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || watch::Seen::of(looked.as_deref())).await else { continue };
        if now == seen {
            continue;
        }
        // an editor may still be at it: half a file would be an error for a moment
        tokio::time::sleep(Duration::from_millis(40)).await;
        let looked = dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            let seen = watch::Seen::of(looked.as_deref());
            (seen, Survey::load(looked.as_deref()))
        });
        if let Ok((now, survey)) = read.await {
            seen = now;
            sender.send_modify(|snapshot| *snapshot = Arc::new(Snapshot { version: snapshot.version + 1, survey }));
        }
    }
}
