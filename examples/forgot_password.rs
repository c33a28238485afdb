//! "I forgot my password" as an API: a link that expires, in a mail that goes through Kafka.
//!
//! ```text
//! APP_SECRET=$(openssl rand -hex 32) DEMO_ACCOUNT=ann@example.com KAFKA_BROKERS=localhost:9092 \
//!     cargo run --example forgot_password
//! curl -d '{"email":"ann@example.com"}' -H 'content-type: application/json' localhost:3000/api/forgot-password
//! ```
//!
//! With `FALLBACK=smtp` and the `SMTP_*` settings the mail goes out even while Kafka is down.
//!
//! - The answer is the same, and comes as fast, whether there is such an account or not: whoever asks learns nothing.
//! - The link is signed (HMAC-SHA-256), holds for [`VALID`], and for one use: the signature covers what the use changes.
//! - The mail expires with its link. One that could not be sent by then is not sent at all.
//!
//! Put a limit on requests, by client and by address, in front of it: otherwise anybody can have any number of mails
//! sent to your users.

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use postlane::{Email, Priority, Producer};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use tokio::{net::TcpListener, signal::unix, sync::Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// How long a link can be used, and how long its mail is worth sending.
const VALID: Duration = Duration::from_secs(15 * 60);
/// Requests that are worked on at once at the most; more of them get no mail.
const AT_ONCE: usize = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let secret = env::var("APP_SECRET").context("APP_SECRET is not set: what links are signed with")?;
    ensure!(secret.len() >= 32, "APP_SECRET is too short: 32 characters or more");
    let accounts = env::var("DEMO_ACCOUNT").into_iter().map(|address| (address.to_lowercase(), Account::default()));
    let app = Arc::new(App {
        producer: Producer::from_env()?,
        accounts: Mutex::new(accounts.collect()),
        secret,
        base_url: env::var("BASE_URL").unwrap_or_else(|_| "http://localhost:3000".to_owned()),
        tasks: TaskTracker::new(),
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
    });
    let router = Router::new()
        .route("/api/forgot-password", post(forgot_password))
        .route("/api/reset-password", post(reset_password))
        .route("/reset", get(reset_form))
        .with_state(Arc::clone(&app));

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).with_graceful_shutdown(shutdown()?).await?;

    // the mails of the last requests
    app.tasks.close();
    app.tasks.wait().await;
    app.producer.close().await;
    Ok(())
}

struct App {
    producer: Producer,
    accounts: Mutex<Accounts>,
    secret: String,
    base_url: String,
    tasks: TaskTracker,
    at_once: Arc<Semaphore>,
}

/// By address in lower case. A database, in an application.
type Accounts = HashMap<String, Account>;

#[derive(Clone, Copy, Default)]
struct Account {
    /// How often the password was changed: a link that was used is none any more.
    changes: u64,
}

#[derive(Deserialize)]
struct ForgotPassword {
    email: String,
}

/// Answers before anything is looked up, so that neither answer nor time tells whether there is such an account.
async fn forgot_password(State(app): State<Arc<App>>, Json(request): Json<ForgotPassword>) -> impl IntoResponse {
    if let Ok(permit) = Arc::clone(&app.at_once).try_acquire_owned() {
        let tasks = app.tasks.clone();
        tasks.spawn(async move {
            app.send_link(&request.email.to_lowercase()).await;
            drop(permit);
        });
    }
    (StatusCode::ACCEPTED, Json(json!({ "message": "If there is such an account, a mail is on its way." })))
}

#[derive(Deserialize)]
struct Link {
    token: String,
}

async fn reset_form(State(app): State<Arc<App>>, Query(link): Query<Link>) -> impl IntoResponse {
    let known = app.address_of(&app.accounts(), &link.token, Utc::now()).is_some();
    let status = if known { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let page = if known {
        // the script takes the token from the address, so that nothing that came from outside stands in the page
        "<!doctype html><title>New password</title><form onsubmit=\"event.preventDefault();\
         fetch('/api/reset-password',{method:'POST',headers:{'content-type':'application/json'},body:JSON.stringify({\
         token:new URLSearchParams(location.search).get('token'),password:this.password.value})})\
         .then(r=>document.body.textContent=r.ok?'Your password is changed.':'This link cannot be used any more.')\">\
         <label>New password <input name=password type=password minlength=12 autocomplete=new-password></label>\
         <button>Change it</button></form>"
    } else {
        "<!doctype html><title>New password</title>This link cannot be used any more. Ask for another one."
    };
    // the token must not go to other sites, nor stay in a cache
    (status, [(header::REFERRER_POLICY, "no-referrer"), (header::CACHE_CONTROL, "no-store")], Html(page))
}

#[derive(Deserialize)]
struct ResetPassword {
    token: String,
    password: String,
}

async fn reset_password(State(app): State<Arc<App>>, Json(request): Json<ResetPassword>) -> StatusCode {
    if request.password.chars().count() < 12 {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    // checked and used up in one step (a database would do both in one transaction)
    let mut accounts = app.accounts();
    let address = app.address_of(&accounts, &request.token, Utc::now());
    let Some(account) = address.and_then(|address| accounts.get_mut(&address)) else { return StatusCode::BAD_REQUEST };
    // an application keeps a hash of the password here (Argon2id)
    account.changes += 1;
    info!("a password was changed");
    StatusCode::NO_CONTENT
}

impl App {
    async fn send_link(&self, address: &str) {
        let Some(account) = self.accounts().get(address).copied() else { return };
        let expires = Utc::now() + VALID;
        let link = format!("{}/reset?token={}", self.base_url, self.token(address, account, expires));
        let email = Email::to(address)
            .from("Example <noreply@example.com>")
            .kind("password_reset")
            .template("password-reset")
            .data(json!({ "Link": link }))
            .priority(Priority::High)
            .expires_at(expires);
        match self.producer.send(email).await {
            Ok(receipt) => info!(id = receipt.id(), way = %receipt.way(), "a link is on its way"),
            Err(error) => error!(%error, "a link was not sent"),
        }
    }

    /// `base64url(address, a line feed, seconds since 1970)` `.` `base64url(signature)`
    fn token(&self, address: &str, account: Account, expires: DateTime<Utc>) -> String {
        let payload = format!("{address}\n{}", expires.timestamp());
        let signature = self.signature(&payload, account).finalize().into_bytes();
        format!("{}.{}", BASE64URL_NOPAD.encode(payload.as_bytes()), BASE64URL_NOPAD.encode(&signature))
    }

    /// Whose token this is, if it is one of ours that is still good.
    fn address_of(&self, accounts: &Accounts, token: &str, now: DateTime<Utc>) -> Option<String> {
        let (payload, signature) = token.split_once('.')?;
        let payload = String::from_utf8(BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?).ok()?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        let (address, expires) = payload.split_once('\n')?;
        let account = accounts.get(address).copied();
        // in constant time, and as long for an account that there is not
        self.signature(&payload, account.unwrap_or_default()).verify_slice(&signature).ok()?;
        (account.is_some() && now.timestamp() < expires.parse().ok()?).then(|| address.to_owned())
    }

    /// What it covers beside the payload makes a link good for one change, and for nothing but passwords.
    fn signature(&self, payload: &str, account: Account) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("a key of any length will do");
        mac.update(format!("reset-password\n{}\n{payload}", account.changes).as_bytes());
        mac
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ctrl-C, or what an orchestrator sends.
fn shutdown() -> Result<impl Future<Output = ()>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    })
}
