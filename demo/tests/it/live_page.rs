//! The live page in a browser.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::RedisServer;

use super::browser::Browser;
use super::seed_layout::execute;
use super::server::{ADMIN, Database, Demo, unknown};

/// Asserts that the page neither complained, nor asked anybody else for anything, nor keeps anything
/// for the time after it.
#[track_caller]
fn expect_quiet(browser: &Browser, demo: &Demo) {
    let kept = "return localStorage.length + sessionStorage.length + document.cookie.length";
    assert_eq!(browser.run(kept), 0);
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

/// Makes a token of acme in the page, and returns its id and its text.
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

fn in_row(id: &str, what: &str) -> String {
    format!("tr[data-token=\"{id}\"] {what}")
}

#[test]
fn the_operator_sees_all_tokens_and_what_others_do_to_them() {
    const NAME: &str = "the_operator_sees_all_tokens_and_what_others_do_to_them";
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
    expect_quiet(&browser, &demo);
}

/// A tenant's name comes out of a table that anybody may have written to.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_markup_in_its_name_is_shown_as_text() {
    let Some(browser) = Browser::start("a_tenant_with_markup_in_its_name_is_shown_as_text") else {
        return;
    };
    const NAME: &str = "<img src=x onerror=alert(1)>\"'&amp;</script>";
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let name = NAME.replace('\'', "''");
    let insert = format!("INSERT INTO tenants (id, name) VALUES ('{name}', 'x')");
    execute(&database, &insert).await;
    execute(
        &database,
        &format!("UPDATE tokens SET tenant_id = '{name}'"),
    )
    .await;
    browser.open(&demo.base);
    become_operator(&browser);
    browser.wait_for("#tokens", |text| text.contains(NAME));
    assert_eq!(
        browser.run("return document.querySelectorAll('img, #tokens script').length"),
        0
    );
    expect_quiet(&browser, &demo);
}

/// The number at the start of a text, without its commas.
fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or(0)
}

#[test]
fn a_click_on_revoke_or_suspend_counts_on_a_second_instance_too() {
    let Some(browser) =
        Browser::start("a_click_on_revoke_or_suspend_counts_on_a_second_instance_too")
    else {
        return;
    };
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let [demo, other] = [(); 2].map(|()| Demo::with(&database, "digest", Some(&redis)));
    browser.open(&demo.base);
    become_operator(&browser);
    let (id, text) = make_token(&browser);
    // The other instance holds it in its memory, where only an invalidation reaches it.
    other.whoami(&text).expect(200);
    other.whoami(&text).expect_origin("local");

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
    expect_quiet(&browser, &demo);
}

#[test]
fn without_the_admin_token_a_visitor_sees_figures_and_uses_a_token_of_his_own() {
    let Some(browser) = Browser::start(
        "without_the_admin_token_a_visitor_sees_figures_and_uses_a_token_of_his_own",
    ) else {
        return;
    };
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "dataset");
    browser.open(&demo.base);
    browser.wait_for("#store", |text| text == "in memory");
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
    // Not left to be read on the page.
    let page = browser.run(
        "return document.documentElement.outerHTML + document.querySelector('#paste-token').value",
    );
    assert!(!page.as_str().unwrap().contains(&token.text));
    expect_quiet(&browser, &demo);
}

/// Not a test: draws `docs/live.png`, in a minute and a half.
///
/// `cargo test -p demo --test it -- --ignored screenshot_of_the_page_under_load`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "draws docs/live.png"]
async fn screenshot_of_the_page_under_load() {
    let browser = Browser::start("screenshot_of_the_page_under_load").expect("a browser");
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = Demo::with(&database, "digest", Some(&redis));
    // Without a memory of its own it forgets at once what Redis is told to forget.
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
        execute(&database, &insert).await;
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
        // To be looked at, and not kept.
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

/// Uses one token until it is over, and tries an invented one now and then, in a slow wave so that the
/// picture has a shape.
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

/// Uses a token of a tenant that is invalidated each time: it comes from the database, or from
/// Redis if another instance loads it before.
fn miss(demo: &Demo, first: Option<&Demo>, tenant: &str, over: &AtomicBool) {
    let body = json!({ "tenant_id": tenant, "type": "app" }).to_string();
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
