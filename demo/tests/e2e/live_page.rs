//! The live page in a browser.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::RedisServer;

use super::browser::Browser;
use super::server::{ADMIN, Database, Demo, unknown};

/// Asserts that the page logged no errors, sent requests to its own server only, and stored nothing.
#[track_caller]
fn assert_self_contained(browser: &Browser, demo: &Demo) {
    let stored = "return localStorage.length + sessionStorage.length + document.cookie.length";
    assert_eq!(browser.run(stored), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let requests = browser.requests();
    assert!(
        requests.iter().any(|url| url.ends_with("/live")),
        "{requests:?}"
    );
    for url in requests {
        let own = url.strip_prefix(demo.base.as_str());
        assert!(
            own.is_some_and(|rest| rest.starts_with('/')) || url.starts_with("data:"),
            "{url}"
        );
        assert!(!url.contains("demo_") && !url.contains(ADMIN), "{url}");
    }
}

#[track_caller]
fn become_operator(browser: &Browser) {
    browser.type_into("#admin-token", ADMIN);
    browser.click("#admin button.main");
    browser.wait_for("#who", |text| text == "admin token in use");
}

/// Creates a token of acme in the page, and returns its id and its text.
#[track_caller]
fn make_token(browser: &Browser) -> (String, String) {
    make_token_of(browser, "acme")
}

#[track_caller]
fn make_token_of(browser: &Browser, tenant: &str) -> (String, String) {
    browser.run(&format!(
        "document.querySelector('#make-tenant').value = {}",
        json!(tenant)
    ));
    let before = browser.text("#made");
    browser.click("#make-button");
    let text = browser.wait_for("#made", |text| !text.is_empty() && text != before);
    let id = browser.run("return document.querySelector('#tokens tr').dataset.token");
    (id.as_str().expect("an id").to_owned(), text)
}

/// Starts an instance that measures a revocation once in this number of seconds.
fn with_canary(database: &Database, redis: &RedisServer, seconds: &str) -> Demo {
    let variables = [("REDIS_URL", &*redis.url()), ("CANARY_SECONDS", seconds)];
    Demo::on(database, &variables)
}

fn in_row(id: &str, what: &str) -> String {
    format!("tr[data-token=\"{id}\"] {what}")
}

#[test]
fn operator_sees_all_tokens_and_changes_by_others() {
    const NAME: &str = "operator_sees_all_tokens_and_changes_by_others";
    let Some(browser) = Browser::start(NAME) else {
        return;
    };
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let [demo, other] = [(); 2].map(|()| Demo::with(&database, "digest", Some(&redis)));
    browser.open(&demo.base);
    become_operator(&browser);
    let seeded = demo.seeded();
    for token in &seeded {
        browser.wait_for(&in_row(&token.id, ".state"), |text| text == "active");
    }
    let disabled =
        "return [...document.querySelectorAll('.send')].every((button) => button.disabled)";
    assert_eq!(
        browser.run(disabled),
        true,
        "their texts are not in the page"
    );

    other.delete(&seeded[0].id).expect(200);
    browser.wait_for(&in_row(&seeded[0].id, ".state"), |text| text == "revoked");
    browser.wait_for("#timeline", |text| text.contains("revoked elsewhere"));
    demo.admin(
        "POST",
        &format!("/admin/tenants/{}/suspend", seeded[3].tenant),
        None,
    )
    .expect(200);
    browser.wait_for(&in_row(&seeded[3].id, ".state"), |text| {
        text == "tenant suspended"
    });
    assert_self_contained(&browser, &demo);
}

/// Another program may have written any text into the table of tenants.
#[tokio::test(flavor = "multi_thread")]
async fn tenant_id_with_markup_is_shown_as_text() {
    let Some(browser) = Browser::start("tenant_id_with_markup_is_shown_as_text") else {
        return;
    };
    const NAME: &str = "<img src=x onerror=alert(1)>\"'&amp;</script>";
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let name = NAME.replace('\'', "''");
    let insert = format!("INSERT INTO tenants (id, name) VALUES ('{name}', 'x')");
    database.execute(&insert).await;
    database
        .execute(&format!("UPDATE api_token_keys SET tenant_id = '{name}'"))
        .await;
    browser.open(&demo.base);
    become_operator(&browser);
    browser.wait_for("#tokens", |text| text.contains(NAME));
    assert_eq!(
        browser.run("return document.querySelectorAll('img, #tokens script').length"),
        0
    );
    assert_self_contained(&browser, &demo);
}

/// Returns the number at the start of a text, which may have commas.
fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or(0)
}

#[test]
fn revoke_and_suspend_take_effect_on_a_second_instance() {
    let Some(browser) = Browser::start("revoke_and_suspend_take_effect_on_a_second_instance")
    else {
        return;
    };
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let other = Demo::with(&database, "digest", Some(&redis));
    let demo = with_canary(&database, &redis, "1");
    browser.open(&demo.base);
    become_operator(&browser);
    browser.wait_for("#canary", |text| {
        text.contains("the last took ") && text.ends_with(", the bound is 1 s.")
    });
    let (id, text) = make_token(&browser);
    // The other instance has it in its local level, from which only an invalidation removes it.
    other.whoami(&text).expect(200);
    other.whoami_locally(&text);

    browser.click(&in_row(&id, "button.send"));
    browser.wait_for(&in_row(&id, ".answers"), |text| text == "200: 100");
    browser.wait_for("#saved", |text| number(text) >= 99);
    browser.wait_for("#store", |text| text == "ok");
    browser.wait_for("#breaker", |text| text == "closed");

    browser.click(&in_row(&id, "button.revoke"));
    browser.wait_for("#log", |text| text.contains("revoked; confirmed after"));
    other.whoami(&text).expect(401);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "revoked");
    browser.wait_for("#timeline", |text| text.contains("revoked, 401 after "));
    browser.wait_for("#timeline", |text| text.contains("; other instance after "));
    browser.wait_for("#tracking", |text| text == "on");
    browser.wait_for("#tracking-more", |text| text.contains(" watched, "));
    browser.wait_for(&in_row(&id, ".answers"), |text| text.contains("401: 1"));

    let (id, text) = make_token(&browser);
    other.whoami(&text).expect(200);
    browser.click(&in_row(&id, "button.suspend"));
    browser.wait_for("#log", |text| {
        text.contains("tenant suspended; confirmed after")
    });
    other.whoami(&text).expect(403);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "tenant suspended");
    browser.wait_for("#timeline", |text| {
        text.contains("tenant suspended, 403 after ")
    });

    browser.click(&in_row(&id, "button.suspend"));
    browser.wait_for("#log", |text| {
        text.contains("tenant resumed; confirmed after")
    });
    other.whoami(&text).expect(200);
    browser.wait_for(&in_row(&id, ".state"), |text| text == "active");
    assert_self_contained(&browser, &demo);
}

#[test]
fn visitor_sees_figures_and_can_use_a_token() {
    let Some(browser) = Browser::start("visitor_sees_figures_and_can_use_a_token") else {
        return;
    };
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "dataset");
    browser.open(&demo.base);
    browser.wait_for("#store", |text| text == "in memory");
    assert_eq!(browser.text("#canary"), "", "one instance has none");
    assert_eq!(browser.text("#tokens"), "");

    browser.type_into("#admin-token", "not-the-admin-token");
    browser.click("#admin button.main");
    browser.wait_for("#note", |text| text == "This is not the admin token.");
    browser.wait_for("#stream", |text| text == "live");

    browser.type_into("#paste-token", &token.text);
    browser.click("#paste button");
    browser.click(&in_row(&token.id, "button.send"));
    browser.wait_for(&in_row(&token.id, ".answers"), |text| text == "200: 100");
    let disabled = browser.run("return document.querySelector('#tokens .revoke').disabled");
    assert_eq!(disabled, true);
    // The page does not show it.
    let page = browser.run(
        "return document.documentElement.outerHTML + document.querySelector('#paste-token').value",
    );
    assert!(!page.as_str().unwrap().contains(&token.text));
    assert_self_contained(&browser, &demo);
}

/// Not a test: takes the screenshot `docs/live.png`, in a minute and a half.
///
/// `cargo test -p demo --test e2e --all-features -- --ignored screenshot_of_the_page_under_load`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "draws docs/live.png"]
async fn screenshot_of_the_page_under_load() {
    let browser = Browser::start("screenshot_of_the_page_under_load").expect("a browser");
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = with_canary(&database, &redis, "5");
    // Without a local level, so that invalidations through Redis take effect immediately.
    let variables = [
        ("REDIS_URL", redis.url()),
        ("LOCAL_CAPACITY", "0".to_owned()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let other = Demo::on(&database, &variables);
    for tenant in ["initech", "umbrella"] {
        let insert = format!("INSERT INTO tenants (id, name) VALUES ('{tenant}', '{tenant}')");
        database.execute(&insert).await;
    }
    browser.open(&demo.base);
    become_operator(&browser);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (demo, other, over) = (&demo, &other, &over);
        for worker in 0..5 {
            scope.spawn(move || hit(worker, demo, over));
        }
        scope.spawn(move || miss(demo, Some(other), "initech", over));
        scope.spawn(move || miss(demo, None, "umbrella", over));
        let _stop = Stop(over);
        let (kept, _) = make_token(&browser);
        let (suspended, _) = make_token_of(&browser, "globex");
        let (revoked, _) = make_token(&browser);
        wait(Duration::from_secs(42));
        for id in [&kept, &suspended, &revoked, &kept] {
            browser.click(&in_row(id, "button.send"));
            wait(Duration::from_millis(1_200));
            if id == &revoked {
                browser.click(&in_row(id, "button.revoke"));
            } else if id == &suspended {
                browser.click(&in_row(id, "button.suspend"));
            }
            browser.wait_for(&in_row(id, "button.send"), |text| text.starts_with("send"));
            wait(Duration::from_secs(3));
        }
        browser.run("document.querySelector('#note').textContent = ''");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = root.join("docs/live.png");
        std::fs::write(docs, browser.screenshot()).expect("written");
        // For review only.
        let others = std::env::temp_dir();
        let dark = json!([{ "name": "prefers-color-scheme", "value": "dark" }]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": dark }));
        wait(Duration::from_secs(2));
        std::fs::write(others.join("live-dark.png"), browser.screenshot()).expect("written");
        let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
        wait(Duration::from_secs(2));
        std::fs::write(others.join("live-phone.png"), browser.screenshot()).expect("written");
    });
}

/// Uses one token until `over` is set, and sometimes an unknown one, at a rate that rises and falls so that
/// the chart is not flat.
fn hit(worker: u32, demo: &Demo, over: &AtomicBool) {
    let token = demo.token("acme", "app").text;
    let begun = Instant::now();
    for round in worker.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        demo.whoami(&token).expect(200);
        if round.is_multiple_of(9) {
            demo.whoami(&unknown("app")).expect(401);
        }
        let phase = begun.elapsed().as_secs_f64() / 8.0 + f64::from(worker) / 3.0;
        wait(Duration::from_secs_f64(0.013 + 0.006 * phase.sin()));
    }
}

/// Uses a token of a tenant that is invalidated before each request, so that it is loaded, or read from
/// Redis if another instance loads it first.
fn miss(demo: &Demo, first: Option<&Demo>, tenant: &str, over: &AtomicBool) {
    let body = json!({ "tenant_id": tenant, "token_type": "app" }).to_string();
    let made = demo.admin("POST", "/admin/tokens", Some(&body)).expect(201);
    let token = made.json()["token"].as_str().expect("a text").to_owned();
    while !over.load(Ordering::Relaxed) {
        let resume = format!("/admin/tenants/{tenant}/resume");
        demo.admin("POST", &resume, None).expect(200);
        if let Some(first) = first {
            first.whoami(&token).expect(200);
        }
        demo.whoami(&token).expect(200);
        wait(Duration::from_millis(8));
    }
}

fn wait(time: Duration) {
    thread::sleep(time);
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
