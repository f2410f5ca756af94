//! A headless Chromium, controlled over the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{PATIENCE, eventually};

/// The protocol's name of an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The programs in Debian's packages `chromium` and `chromium-driver`.
const PROGRAMS: [&str; 2] = ["chromium", "chromedriver"];

/// A browser with one page, which is terminated when dropped.
pub(crate) struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser. If none is installed, the test is skipped with a message, or fails if
    /// `REQUIRE_BROWSER` is set, as in CI.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let [browser, driver] = PROGRAMS.map(find);
        if let (Some(browser), Some(driver)) = (&browser, &driver) {
            return Some(Self::launch(browser, driver));
        }
        let message = format!(
            "SKIPPED {test}: {} not found; scripts/lib/install-servers chromium chromedriver",
            PROGRAMS.join(" or ")
        );
        assert!(std::env::var_os("REQUIRE_BROWSER").is_none(), "{message}");
        // Not with eprintln!, whose output is hidden if the test passes.
        let _ = writeln!(std::io::stderr(), "\n{message}");
        None
    }

    fn launch(browser: &Path, driver: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut driver = Command::new(driver)
            .arg("--port=0")
            // A directory that is removed with everything that the browser writes.
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = loop {
            let line = lines.next().expect("a line with the port").expect("text");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(2 * PATIENCE));
        let mut started = Self {
            driver,
            agent: config.build().into(),
            session: format!("http://127.0.0.1:{port}/session"),
            _profile: profile,
        };
        started.open_session(browser);
        started
    }

    fn open_session(&mut self, browser: &Path) {
        let arguments = [
            "--headless=new",
            // The sandbox does not work for root and in many containers. The page is our own.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--disable-background-networking",
            "--force-color-profile=srgb",
            "--window-size=1280,1350",
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": browser, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        }}});
        let opened = self.command("", &capabilities);
        let id = opened["sessionId"].as_str().expect("a session").to_owned();
        self.session = format!("{}/{id}", self.session);
    }

    /// Sends a command and returns its value.
    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_command(path, body);
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_command(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.agent.post(format!("{}{path}", self.session));
        let sent = request
            .header("content-type", "application/json")
            .send(body.to_string());
        let mut answer = sent.map_err(|error| error.to_string())?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        let mut json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if answer.status() == 200 {
            Ok(json["value"].take())
        } else {
            Err(json["value"]["message"].to_string())
        }
    }

    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page and returns what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Returns the text of the first element that matches the selector.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let script = format!(
            "return document.querySelector({})?.textContent",
            json!(selector)
        );
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the element's text satisfies `wanted`.
    #[track_caller]
    pub(crate) fn wait_for(&self, selector: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        eventually(selector, || {
            text = self.text(selector);
            wanted(&text)
        });
        text
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = json!({ "using": "css selector", "value": selector });
        let element = self.command("/element", &found);
        element[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks an element, which has to be visible, uncovered and enabled.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        eventually(&format!("{selector} is enabled"), || {
            let script = format!(
                "return document.querySelector({})?.disabled",
                json!(selector)
            );
            self.run(&script) == false
        });
        let path = format!("/element/{}/click", self.element(selector));
        self.command(&path, &json!({}));
    }

    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.element(selector));
        self.command(&path, &json!({ "text": text }));
    }

    /// Returns the page as a PNG.
    #[track_caller]
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let taken = self.devtools(
            "Page.captureScreenshot",
            &json!({ "captureBeyondViewport": true }),
        );
        base64(taken["data"].as_str().expect("an image"))
    }

    /// Sends a command of Chromium's own protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("/goog/cdp/execute", &body)
    }

    /// Returns the lines of the console since the last call, without the browser's own lines about
    /// responses with an error status.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser");
        let of_page = entries.iter().filter(|entry| entry["source"] != "network");
        of_page.map(Value::to_string).collect()
    }

    /// Returns the URLs of all requests since the last call.
    #[track_caller]
    pub(crate) fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let messages = entries.iter().map(|entry| {
            let text = entry["message"].as_str().expect("a message");
            serde_json::from_str::<Value>(text).expect("JSON")["message"].take()
        });
        messages
            .filter(|message| message["method"] == "Network.requestWillBeSent")
            .map(|message| {
                message["params"]["request"]["url"]
                    .as_str()
                    .expect("a URL")
                    .to_owned()
            })
            .collect()
    }

    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.command("/se/log", &json!({ "type": kind }));
        log.as_array().expect("entries").clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Killing the driver would not terminate the browser.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Decodes standard base64 (RFC 4648).
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').bytes().map(|byte| {
        let value = ALPHABET.iter().position(|known| *known == byte);
        value.expect("a digit of base64") as u32
    });
    let digits: Vec<_> = digits.collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    groups.collect()
}
