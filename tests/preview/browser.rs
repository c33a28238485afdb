//! Debian's Chromium without a window, driven over a pair of pipes (`DevTools` protocol).
//!
//! Owns the process and the few commands that the tests need. Pipes need no port and no WebSocket, and Chromium ends with
//! them: nothing is left behind where a test is killed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Names under which systems have it.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// Longest time for an answer, or for something to become true: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);
/// Looks at a condition this often.
const POLL: Duration = Duration::from_millis(30);

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<Value>,
    last: u64,
    page: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it with a window of that size; fails where there is none, since a test that is skipped says nothing.
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program =
            PROGRAMS.into_iter().find(|name| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
        let program = program.expect("there is no chromium: install Debian's package `chromium`");
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("/bin/sh")
            // the browser reads commands from its file 3 and writes answers to its file 4
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", program])
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // root has no sandbox, and only pages of ours are loaded
            .args(["--no-sandbox", &format!("--window-size={width},{height}")])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let output = child.stdout.take().expect("a pipe");
        let (sender, answers) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0) {
                let Ok(message) = message else { return };
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut browser = Self { child, input, answers, last: 0, page: String::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = target["targetId"].as_str().expect("a page").to_owned();
        let session = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.page);
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
        browser
    }

    /// Says what the browser is to do and waits until it has answered.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": params});
        if !self.page.is_empty() {
            command["sessionId"] = json!(self.page);
        }
        let input = self.input.as_mut().expect("open until the end");
        input.write_all(&[command.to_string().as_bytes(), b"\0"].concat()).expect("the browser reads");
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left).unwrap_or_else(|_| panic!("{method}: no answer"));
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// Opens an address; returns before it is loaded.
    pub(crate) fn open(&mut self, address: &str) {
        let outcome = self.call("Page.navigate", &json!({"url": address}));
        assert!(outcome["errorText"].is_null(), "{address}: {}", outcome["errorText"]);
    }

    /// What an expression of JavaScript gives in the page, promises awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let outcome = self.call("Runtime.evaluate", &params);
        if outcome["exceptionDetails"].is_null() {
            return outcome["result"]["value"].clone();
        }
        json!({"exception": outcome["exceptionDetails"]["exception"]["description"]})
    }

    /// Waits until an expression gives what is expected.
    pub(crate) fn expect(&mut self, expression: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.evaluate(expression);
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{expression} is {found} and not {expected}");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // without its pipes it ends
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
