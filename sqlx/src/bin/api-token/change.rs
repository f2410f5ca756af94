//! The commands that change keys and tenants.

use chrono::{TimeDelta, Utc};
use clap::ArgMatches;
use serde_json::{Value, json};
use tower_api_token_sqlx::{AuditQuery, Change, IssuedKey, NewKey, Subject};

use crate::arguments::Values;
use crate::confirm::{Committed, Wait, commit};
use crate::exit::Failure;
use crate::output::{Output, clean, note};
use crate::session::Session;
use crate::settings::{Layout, Settings, user};
use crate::shape;
use crate::span::time;

/// `issue`
pub(crate) async fn issue(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    check_layout(settings)?;
    let session = Session::without_redis(settings).await?;
    let change = session.keys.issue(new_key(arguments)?);
    let issued = commit(by(change, arguments)).await?.value;
    let key = &issued.key;
    print_text(out, &issued)?;
    let printed = out.json(|| with_token("issued", &issued, None));
    printed.map_err(|error| unprinted(&issued, error))?;
    if !out.is_json {
        let end = key.expires_at.map_or("never expires".to_owned(), |end| {
            format!("expires {}", time(end))
        });
        note(&format!(
            "issued {} of {}; it {end}",
            key.id,
            clean(&key.tenant_id)
        ));
    }
    Ok(())
}

/// Rejects the layout whose service stores the text of each key in a table of its own, and finds it there to invalidate it.
fn check_layout(settings: &Settings) -> Result<(), Failure> {
    if matches!(settings.layout, Layout::Dify) {
        let rule = "dify: the service stores the text of each new key, and this command cannot; create it through the service";
        return Err(Failure::usage(format!("KEY_LAYOUT: {rule}")));
    }
    Ok(())
}

fn new_key(arguments: &ArgMatches) -> Result<NewKey, Failure> {
    let mut key = NewKey::new(arguments.text("TENANT").unwrap_or_default());
    if let Some(name) = arguments.text("name") {
        key = key.name(name);
    }
    if let Some(token_type) = arguments.text("type") {
        key = key.token_type(token_type);
    }
    if let Some(id) = arguments.text("app") {
        key = key.app_id(id);
    }
    if let Some(metadata) = arguments.get_one::<Value>("metadata") {
        key = key.metadata(metadata);
    }
    let scopes = arguments.get_many::<String>("scope").unwrap_or_default();
    let end = match arguments.span("expires-in") {
        None => arguments.get_one("expires-at").copied(),
        Some(span) => {
            let span = TimeDelta::from_std(span).ok();
            let end = span.and_then(|span| Utc::now().checked_add_signed(span));
            Some(end.ok_or_else(|| Failure::usage("--expires-in: too long"))?)
        }
    };
    Ok(key.scopes(scopes).expires_at(end))
}

/// `rotate`
pub(crate) async fn rotate(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let id = id(settings, arguments)?;
    let session = Session::for_changes(settings, arguments.get_flag("no-redis")).await?;
    if arguments.get_flag("undo") {
        return undo(out, &session, id, arguments).await;
    }
    check_layout(settings)?;
    let overlap = arguments.span("overlap").unwrap_or_default();
    let mut done = commit(by(session.keys.rotate(id, overlap), arguments)).await?;
    // Before the wait: the process may be killed in it, and the text is nowhere else.
    print_text(out, &done.value.successor)?;
    let subject = Subject::Key(done.value.predecessor.digest);
    done.wait(&session, wait(arguments), &[subject]).await;
    let (old, new) = (&done.value.predecessor, &done.value.successor);
    let printed = out.json(|| {
        let mut object = with_token("rotated", new, Some(done.json()));
        object["predecessor"] = shape::key(old, Utc::now());
        object
    });
    printed.map_err(|error| unprinted(new, error))?;
    if !out.is_json {
        let end = match (old.revoked_at, old.expires_at) {
            (Some(_), _) => "is revoked".to_owned(),
            (None, Some(end)) => format!("is valid until {}", time(end)),
            (None, None) => "never expires".to_owned(),
        };
        note(&format!(
            "rotated {} to {}, and {} {end}; {}",
            old.id,
            new.key.id,
            old.id,
            done.text()
        ));
    }
    done.end()
}

async fn undo(
    out: Output,
    session: &Session,
    id: String,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let mut done = commit(by(session.keys.undo_rotation(&id), arguments)).await?;
    if done.is_confirmed() {
        done.wait(session, wait(arguments), &[]).await;
    } else if let Ok(successors) = undone_successors(session, &id).await {
        let key = Subject::Key(done.value.digest);
        let subjects: Vec<_> = successors.into_iter().chain([key]).collect();
        done.wait(session, wait(arguments), &subjects).await;
    }
    let key = &done.value;
    let text = format!("undid the rotation of {}; {}", key.id, done.text());
    print_change(
        out,
        "rotation_undone",
        &done,
        &text,
        json!({ "key": shape::key(key, Utc::now()) }),
    )
}

/// Returns what was revoked when rotations of this key were undone. It is read after the commit, so that it has the
/// successor of this rotation whatever happened meanwhile.
async fn undone_successors(session: &Session, id: &str) -> Result<Vec<Subject>, Failure> {
    let entries = session
        .keys
        .audit(AuditQuery::new().key(id).limit(1_000))
        .await?;
    let mut successors = Vec::new();
    for entry in entries
        .into_iter()
        .filter(|it| it.action == "rotation_undone")
    {
        let successor = session.keys.get(&entry.detail.unwrap_or_default()).await?;
        successors.extend(successor.map(|key| Subject::Key(key.digest)));
    }
    Ok(successors)
}

/// `revoke`
pub(crate) async fn revoke(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let id = id(settings, arguments)?;
    let session = Session::for_changes(settings, arguments.get_flag("no-redis")).await?;
    let mut done = commit(by(session.keys.revoke(id), arguments)).await?;
    let subject = Subject::Key(done.value.digest);
    done.wait(&session, wait(arguments), &[subject]).await;
    let key = &done.value;
    let text = format!(
        "revoked {} of {}; {}",
        key.id,
        clean(&key.tenant_id),
        done.text()
    );
    print_change(
        out,
        "revoked",
        &done,
        &text,
        json!({ "key": shape::key(key, Utc::now()) }),
    )
}

/// `suspend` and `resume`
pub(crate) async fn set_suspended(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
    suspended: bool,
) -> Result<(), Failure> {
    let session = Session::for_changes(settings, arguments.get_flag("no-redis")).await?;
    let tenant = arguments.text("TENANT").unwrap_or_default();
    let (change, action) = if suspended {
        (session.keys.suspend(&tenant), "suspended")
    } else {
        (session.keys.resume(&tenant), "resumed")
    };
    let mut done = commit(by(change, arguments)).await?;
    done.wait(
        &session,
        wait(arguments),
        &[Subject::Tenant(tenant.clone())],
    )
    .await;
    let text = format!("{action} {}; {}", clean(&tenant), done.text());
    print_change(out, action, &done, &text, json!({ "tenant_id": tenant }))
}

fn print_change<T>(
    out: Output,
    action: &str,
    done: &Committed<T>,
    text: &str,
    mut object: Value,
) -> Result<(), Failure> {
    out.text(text)?;
    out.json(|| {
        object["action"] = action.into();
        object["confirmation"] = done.json();
        object
    })?;
    done.end()
}

fn with_token(action: &str, issued: &IssuedKey, confirmation: Option<Value>) -> Value {
    let mut object = json!({
        "action": action,
        "key": shape::key(&issued.key, Utc::now()),
        "token": issued.token.expose(),
    });
    if let Some(confirmation) = confirmation {
        object["confirmation"] = confirmation;
    }
    object
}

/// Prints the text of a key alone, so that `$(api-token issue …)` is the text.
fn print_text(out: Output, issued: &IssuedKey) -> Result<(), Failure> {
    let printed = out.text(issued.token.expose());
    printed.map_err(|error| unprinted(issued, error))
}

fn unprinted(issued: &IssuedKey, error: std::io::Error) -> Failure {
    let id = &issued.key.id;
    Failure::Failed(format!(
        "standard output: {error}; {id} was created, and nobody has its text: revoke it"
    ))
}

fn by<T: Send + 'static>(change: Change<T>, arguments: &ArgMatches) -> Change<T> {
    match arguments.text("actor").or_else(user) {
        Some(actor) => change.by(actor),
        None => change,
    }
}

fn wait(arguments: &ArgMatches) -> Wait {
    Wait {
        limit: arguments.span("wait").unwrap_or_default(),
        everywhere: arguments.get_flag("everywhere"),
    }
}

/// Returns the argument `ID`, unless it is a token.
pub(crate) fn id(settings: &Settings, arguments: &ArgMatches) -> Result<String, Failure> {
    let id = arguments.text("ID").unwrap_or_default();
    if settings.format.matches(&id) {
        let rule = "a token and not an id; other users of this machine can read arguments, and the shell stores them, so revoke it; `api-token check` reads a token from standard input and prints its id";
        return Err(Failure::usage(format!("ID: {rule}")));
    }
    Ok(id)
}
